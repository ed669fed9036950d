// The cards on top: requests, failures, latency and load, each with its figure of now and its last fifteen minutes.

import { chart } from "./chart.js";
import { lately, latency, now } from "./history.js";
import { at, make, say } from "./page.js";
import { millis, number, percent } from "./words.js";

const CLASSES = [["2xx", "ok"], ["3xx", "moved"], ["4xx", "asked"], ["5xx", "bad"], ["other", "rest"]];
const QUANTILES = [["p50", "first"], ["p95", "second"], ["p99", "third"]];

/** Makes the cards; `update(history, connections)` fills them. */
export function traffic() {
  const cards = [requests(), failures(), latencies(), load()];
  at("cards").append(...cards.map((one) => one.element));
  return { update: (history) => cards.forEach((one) => one.update(history)) };
}

/** A card: a title, figures with their names, the chart and a legend of its layers. */
function card(title, figures, options) {
  const values = figures.map(() => make("span", { class: "figure" }));
  const named = figures.map((name, index) => make("p", {}, values[index], make("span", { class: "muted" }, ` ${name}`)));
  const picture = chart(options);
  const legend = make("ul", { class: "legend" }, ...(options.layers.length > 1 ? options.layers.map(key) : []));
  const element = make("article", { class: "panel card" }, make("h3", {}, title), make("div", { class: "figures" }, ...named), picture.element, legend);
  const update = (texts, columns, history) => {
    texts.forEach((text, index) => say(values[index], text));
    picture.update(columns, history);
  };
  return { element, update };
}

function key([name, kind]) {
  return make("li", {}, make("span", { class: `key ${kind}`, "aria-hidden": "true" }), name);
}

function requests() {
  const one = card("Requests", ["per second"], { layers: CLASSES, format: (value) => `${number(value)}/s`, stacked: true });
  const update = (history) => {
    const { classes = {}, requests = [] } = history.whole;
    const none = requests.map(() => 0);
    const other = (classes.other ?? none).map((value, index) => value + classes["1xx"][index]);
    const columns = [...CLASSES.slice(0, 4).map(([name]) => classes[name] ?? none), other];
    one.update([number(now(requests) ?? 0)], columns, history);
  };
  return { element: one.element, update };
}

function failures() {
  const one = card("Failed", ["last minute", "/s"], { layers: [["failed", "bad"]], format: percent, least: 0.01 });
  const update = (history) => {
    const { requests = [], failed = [] } = history.whole;
    const share = requests.map((value, index) => (value > 0 ? failed[index] / value : 0));
    const minute = lately(requests) > 0 ? lately(failed) / lately(requests) : 0;
    one.update([percent(minute), number(now(failed) ?? 0)], [share], history);
  };
  return { element: one.element, update };
}

function latencies() {
  const one = card("Latency", ["p50", "p95", "p99"], { layers: QUANTILES, format: millis, least: 1 });
  const update = (history) => {
    const columns = QUANTILES.map(([name]) => history.whole[`${name}_ms`] ?? []);
    one.update(columns.map((values) => millis(latency(values))), columns, history);
  };
  return { element: one.element, update };
}

function load() {
  const layers = [["in flight", "first"], ["connections", "second"]];
  const one = card("Load", ["in flight", "connections"], { layers, format: number, least: 10 });
  const update = (history) => {
    const { in_flight: inFlight = [], connections = [] } = history.whole;
    one.update([number(now(inFlight) ?? 0), number(now(connections) ?? 0)], [inFlight, connections], history);
  };
  return { element: one.element, update };
}
