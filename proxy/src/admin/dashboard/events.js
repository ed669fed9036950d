// What an operator hears of, as it happens: the newest on top, from where one left off if the connection was lost.

import { Denied, Refused, listen } from "./api.js";
import { at, badge, make, say, show } from "./page.js";
import { moment } from "./words.js";

/** As many as the list shows; the process keeps more. */
const SHOWN = 200;

/** How long to wait before listening again. */
const AGAIN = 2000;

const KINDS = { error: "bad", warn: "warn", info: "idle" };

/** Ends the listening of now, but not that there is any. */
let turn = new AbortController();

/** Listens until `signal` says so, or the process has no events; `denied` is called when the API wants a token. */
export async function events(known, signal, denied) {
  while (!signal.aborted) {
    turn = new AbortController();
    try {
      await listen(known.heard, hearing(known, turn.signal), AbortSignal.any([signal, turn.signal]));
    } catch (error) {
      if (error instanceof Denied) return denied(error);
      if (error instanceof Refused && error.status === 404) return noEvents();
      // Nobody answers, which is said on top, or not now.
      if (error instanceof Refused) say(at("event-state"), `There are no news of events, trying again: ${error.message}.`);
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

/** Another process answers, which counts from 1 again: what it has said already is to be heard, too. */
export function listenAnew(known) {
  known.heard = 0;
  turn.abort();
}

/** A process without a log of its own, inside another program, keeps none. */
export function noEvents() {
  say(at("event-state"), "This process keeps no events: it runs without a log.");
}

/** The list shows all, or what is trouble. */
export function eventFilter() {
  at("event-level").addEventListener("change", () => [...at("event-list").children].forEach(sift));
}

function hearing(known, ended) {
  const begun = () => say(at("event-state"), "");
  // What was under way when it ended is told once more.
  const hear = (event) => {
    if (ended.aborted) return;
    known.heard = event.id;
    put(event);
  };
  return { begun, hear };
}

/** Puts it where its time is, once: who listens anew hears some again, and older ones that were missed. */
function put(event) {
  const list = at("event-list");
  const below = [...list.children].find((item) => item.dataset.at <= event.at);
  for (let same = below; same?.dataset.at === event.at; same = same.nextElementSibling) {
    if (same.dataset.id === String(event.id)) return;
  }
  list.insertBefore(line(event), below ?? null);
  if (list.children.length > SHOWN) list.lastElementChild.remove();
}

function line({ id, at: time, level, message, ...fields }) {
  const facts = Object.entries(fields).map(([name, value]) => `${name}=${value}`).join("  ");
  const what = make("span", { class: "event-text" }, message, " ", make("span", { class: "muted" }, facts));
  const attributes = { "data-level": level, "data-at": time, "data-id": id };
  const item = make("li", attributes, make("time", { datetime: time }, moment(time)), badge(KINDS[level], level), what);
  sift(item);
  return item;
}

const sift = (item) => show(item, at("event-level").value === "" || item.dataset.level !== "info");
