// The dashboard: asks once a second while somebody looks, and shows what it is told.
//
// Owns what is known and the rhythm. Each part of the page has a file of its own; none of them asks for anything that goes
// round by itself but for the events. Starts nothing while the tab is hidden, and goes on trying when nobody answers.

import { Denied, get, token } from "./api.js";
import { config, configOrders } from "./config.js";
import { eventFilter, events, listenAnew, noEvents } from "./events.js";
import { explain, listenersToAsk } from "./explain.js";
import { History } from "./history.js";
import { listeners } from "./listeners.js";
import { at, mark, nameTables, paint, say, show, tell } from "./page.js";
import { routes } from "./routes.js";
import { services } from "./services.js";
import { traffic } from "./traffic.js";
import { verdict } from "./verdict.js";
import { moment, since } from "./words.js";

/** Between two looks. */
const EVERY = 1000;

/** Looks between two at what seldom changes: listeners. */
const SELDOM = 5;

/** What of the status changes with a reload. */
const NEWS = ["generation", "loaded_at", "checked_at", "refused_at"];

const known = { status: null, history: new History(), services: [], listeners: [], routes: [], config: null, generations: [], heard: 0 };

const cards = traffic();

/** Ends the looking of a tab that is hidden, or that was told to show a token. */
let watching = null;

async function look(count) {
  const asked = ["/api/status", "/api/services", `/api/history?after=${known.history.last}`];
  const [status, fleet, told] = await Promise.all(asked.map(get));
  const same = known.history.take(told);
  if (!same) {
    listenAnew(known);
    known.history.take(await get("/api/history"));
  }
  const news = !same || isNews(known.status, status);
  if (news || count % SELDOM === 0) known.listeners = await get("/api/listeners");
  if (news) {
    const seldom = ["/api/routes", "/api/config", "/api/generations"];
    [known.routes, known.config, known.generations] = await Promise.all(seldom.map(get));
  }
  // Last: what could not be asked for is news once more.
  Object.assign(known, { status, services: fleet });
}

/** Whether a reload was published or refused since, or has read the same with other warnings. */
const isNews = (before, status) => NEWS.some((key) => before?.[key] !== status[key]);

function render() {
  const { status } = known;
  const { kind, text } = verdict(known);
  mark(at("verdict"), "class", `verdict ${kind}`);
  say(at("verdict"), text);
  say(at("version"), status.version);
  paint(at("phase"), ...phase(status));
  at("phase").title = "";
  say(at("generation"), status.generation);
  say(at("loaded"), `${moment(status.loaded_at)} (${since(status.loaded_at)})`);
  cards.update(known.history);
  services(known, { changed: refresh, failed });
  routes(known);
  listeners(known);
  listenersToAsk(known.listeners);
  config(known, failed);
}

function phase({ phase, reasons }) {
  if (phase !== "running") return ["warn", phase];
  return reasons.length === 0 ? ["good", "ready"] : ["bad", `not ready: ${reasons.join(", ")}`];
}

/** Looks again at once, because something was changed. If that fails, the next look tells of it. */
async function refresh() {
  await look(0).then(render, () => {});
}

async function watch(signal) {
  for (let count = 0; !signal.aborted; count += 1) {
    try {
      await look(count);
      if (signal.aborted) return;
      if (count === 0) begin(signal);
      render();
    } catch (error) {
      if (error instanceof Denied) return denied(error);
      lost(error);
      // All of it is asked for anew, for it may be another process that answers next.
      count = -1;
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

let listening = null;

/** The first answer is there: the page is let in. */
function begin(signal) {
  show(at("token"), false);
  show(at("main"), true);
  show(at("forget"), token.get() !== null);
  // A link shows no token.
  show(at("raw"), token.get() === null);
  if (!known.status.events) return noEvents();
  if (listening === signal) return;
  listening = signal;
  // It ends by itself if the process has no events; the next one may.
  events(known, signal, denied).finally(() => {
    if (listening === signal) listening = null;
  });
}

/** Nobody answers, or not in order. What was known stays to be read. */
function lost(error) {
  known.status = null;
  const last = known.history.until === null ? "" : ` What is shown is of ${moment(known.history.until)}.`;
  mark(at("verdict"), "class", "verdict bad");
  say(at("verdict"), `The connection to Waypost is lost; trying again.${last}`);
  paint(at("phase"), "bad", "no answer");
  at("phase").title = error.message;
}

/** The words of the API with which a token helps; without one in the config nothing does. */
const NEEDS_TOKEN = ["token_missing", "token_wrong", "foreign_host", "cross_site", "proxied"];

function denied(error) {
  watching?.abort();
  at("rollback").close();
  const wrong = error.code === "token_wrong";
  if (wrong) token.forget();
  mark(at("verdict"), "class", "verdict warn");
  say(at("verdict"), `The API is not open to this page: ${error.message}.`);
  paint(at("phase"), "warn", "locked");
  show(at("main"), false);
  show(at("raw"), false);
  show(at("token"), NEEDS_TOKEN.includes(error.code));
  say(at("token-why"), wrong ? "That was not the admin token. Try another one." : "This address wants the token of [admin] in the config.");
  at("token-field").focus();
}

function failed(error, what) {
  if (error instanceof Denied) return denied(error);
  tell(`${what}: ${error.message}.`);
}

function tokenForm() {
  at("token").addEventListener("submit", (event) => {
    event.preventDefault();
    token.keep(at("token-field").value);
    at("token-field").value = "";
    start();
  });
  at("forget").addEventListener("click", () => {
    token.forget();
    location.reload();
  });
}

function start() {
  known.status = null;
  watching?.abort();
  watching = new AbortController();
  watch(watching.signal);
}

function stop() {
  watching?.abort();
}

nameTables();
tokenForm();
eventFilter();
explain(denied);
configOrders({ changed: refresh, failed });
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
if (!document.hidden) start();
