// What an operator hears of, as it happens: the newest on top, from where one left off if the connection was lost.

import { Denied, Refused, listen } from "./api.js";
import { at, badge, make, say, show } from "./page.js";
import { moment } from "./words.js";

/** As many as the list shows; the process keeps more. */
const SHOWN = 200;

/** How long to wait before listening again. */
const AGAIN = 2000;

const KINDS = { error: "bad", warn: "warn", info: "idle" };

/** Listens until `signal` says so; `denied` is called when the API wants a token. */
export async function events(known, signal, denied) {
  while (!signal.aborted) {
    try {
      say(at("event-state"), "");
      await listen(known.heard, (event) => hear(known, event), signal);
    } catch (error) {
      if (error instanceof Denied) return denied(error);
      if (error instanceof Refused) return noEvents();
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

/** A process without a log of its own, inside another program, keeps none. */
export function noEvents() {
  say(at("event-state"), "This process keeps no events: it runs without a log.");
}

/** The list shows all, or what is trouble. */
export function eventFilter() {
  at("event-level").addEventListener("change", () => [...at("event-list").children].forEach(sift));
}

function hear(known, event) {
  // Another process counts from 1 again.
  known.heard = event.id;
  const { id, at: time, level, message, ...fields } = event;
  const facts = Object.entries(fields).map(([name, value]) => `${name}=${value}`).join("  ");
  const what = make("span", { class: "event-text" }, message, " ", make("span", { class: "muted" }, facts));
  const item = make("li", { "data-level": level }, make("time", { datetime: time }, moment(time)), badge(KINDS[level], level), what);
  sift(item);
  at("event-list").prepend(item);
  if (at("event-list").children.length > SHOWN) at("event-list").lastElementChild.remove();
}

const sift = (item) => show(item, at("event-level").value === "" || item.dataset.level !== "info");
