// Services and their endpoints: state and why, share, latency, what is in flight, and the buttons that drain.

import { post } from "./api.js";
import { sparkline } from "./chart.js";
import { failedLately, lately, latency, now } from "./history.js";
import { at, badge, cell, keep, make, mark, naming, paint, row, say, tell } from "./page.js";
import { millis, number, percent, since } from "./words.js";

const HEADINGS = ["Endpoint", "State", "Why", "Requests/s", "Share", "p50", "p99", "In flight", "Weight"];
const NUMBERS = ["Requests/s", "p50", "p99", "In flight", "Weight"];

/** Shows what is known; `changed` is called when an order was carried out, `failed` with the error when it was not. */
export function services(known, orders) {
  const block = (service) => serviceBlock(service.name, orders, known);
  keep(at("service-list"), known.services, (service) => service.name, block);
}

function serviceBlock(name, orders, known) {
  const [available, about, spark] = [badge("", ""), make("span", { class: "muted" }), sparkline("first")];
  const title = make("h3", { id: `service-${name}` }, name);
  const body = make("tbody", { role: "rowgroup" });
  const head = make("div", { class: "bar service" }, title, available, about, spark.element);
  const element = make("article", { class: "panel", "aria-labelledby": `service-${name}` }, head, table(name, body));
  const update = (service) => {
    const columns = known.history.services[name];
    fillHead({ available, about, spark }, service, columns);
    const attempts = known.history.endpoints[name] ?? {};
    const total = attemptsLately(service, attempts);
    const item = (endpoint) => ({ ...endpoint, service: name, columns: attempts[endpoint.name], total });
    keep(body, service.endpoints.map(item), (endpoint) => endpoint.name, () => endpointRow(orders));
  };
  return { element, update };
}

/** The attempts at all of its endpoints; unknown if some of them have no history. */
function attemptsLately({ endpoints }, attempts) {
  if (endpoints.some((one) => !attempts[one.name])) return undefined;
  return Object.values(attempts).reduce((sum, one) => sum + lately(one.requests), 0);
}

function fillHead({ available, about, spark }, service, columns) {
  paint(available, ...availability(service));
  const failed = columns && (failedLately(columns) ?? 0);
  const figures = [service.balancer.replace("_", " "), `${number(now(columns?.requests))}/s`, `p99 ${millis(latency(columns?.p99_ms))}`];
  say(about, [...figures, `failed ${percent(failed)}`].join(" · "));
  spark.update(columns?.requests);
}

/** A backup that waits is none that is missed. */
function availability({ available: count, endpoints }) {
  const missed = endpoints.some((one) => !one.backup && !one.available);
  return [count === 0 ? "bad" : missed ? "warn" : "good", `${count} of ${endpoints.length} available`];
}

function table(name, body) {
  const heading = (text) => make("th", { scope: "col", role: "columnheader", class: NUMBERS.includes(text) ? "number" : "" }, text);
  const last = make("th", { scope: "col", role: "columnheader" }, make("span", { class: "unseen" }, "Drain"));
  const head = make("thead", { role: "rowgroup" }, row(...HEADINGS.map(heading), last));
  const caption = make("caption", { class: "unseen" }, `Endpoints of ${name}`);
  return make("table", { role: "table", class: "endpoints" }, caption, head, body);
}

function endpointRow(orders) {
  const [name, url] = [make("span"), make("span", { class: "muted small" })];
  const [state, for_, spark, rate] = [badge("", ""), make("span", { class: "muted small" }), sparkline("first"), make("span")];
  const [bar, share] = [make("span", { class: "bar-full" }), make("span", { class: "share-text" })];
  const why = cell("Why", "why");
  const [p50, p99, inFlight, weight] = ["p50", "p99", "In flight", "Weight"].map((label) => cell(label, "number"));
  const button = make("button", { type: "button", onclick: () => order(button, orders) });
  const element = row(
    naming(name, url),
    cell("State", "state", state, for_),
    why,
    cell("Requests/s", "number with-spark", spark.element, rate),
    cell("Share", "share", make("span", { class: "bar-empty", "aria-hidden": "true" }, bar), share),
    p50, p99, inFlight, weight,
    cell("", "action", button),
  );
  const parts = { name, url, state, for_, why, spark, rate, bar, share, p50, p99, inFlight, weight, button };
  return { element, update: (endpoint) => fillRow(parts, endpoint) };
}

function fillRow(parts, endpoint) {
  const { columns } = endpoint;
  const part = endpoint.total === undefined ? undefined : lately(columns.requests) / Math.max(endpoint.total, Number.MIN_VALUE);
  say(parts.name, endpoint.name);
  say(parts.url, endpoint.url);
  paint(parts.state, ...standing(endpoint));
  say(parts.for_, `for ${since(endpoint.since)}`);
  say(parts.why, endpoint.why);
  parts.spark.update(columns?.requests);
  say(parts.rate, number(now(columns?.requests)));
  parts.bar.style.inlineSize = `${100 * (part ?? 0)}%`;
  say(parts.share, percent(part));
  say(parts.p50, millis(latency(columns?.p50_ms)));
  say(parts.p99, millis(latency(columns?.p99_ms)));
  say(parts.inFlight, number(endpoint.in_flight));
  say(parts.weight, endpoint.backup ? `${endpoint.weight}, backup` : endpoint.weight);
  fillButton(parts.button, endpoint);
}

/** The first of what keeps requests from it, or its health; and the colour of that. */
function standing(endpoint) {
  if (endpoint.state === "down") return ["bad", "down"];
  if (endpoint.draining) return ["idle", "draining"];
  if (endpoint.ejected) return ["bad", "ejected"];
  if (endpoint.circuit !== "closed") return ["warn", endpoint.circuit === "open" ? "cut off" : "on trial"];
  return [endpoint.state === "up" ? "good" : "idle", endpoint.state];
}

function fillButton(button, { service, name, draining }) {
  const verb = draining ? "Undrain" : "Drain";
  say(button, verb);
  mark(button, "aria-label", `${verb} ${name} of ${service}`);
  Object.assign(button.dataset, { service, name, verb: verb.toLowerCase() });
}

async function order(button, { changed, failed }) {
  const { service, name, verb } = button.dataset;
  try {
    await post(`/api/services/${encodeURIComponent(service)}/endpoints/${encodeURIComponent(name)}/${verb}`);
    tell(`${name} of ${service}: ${verb === "drain" ? "it drains" : "it gets new clients again"}.`);
    await changed();
  } catch (error) {
    failed(error, `${name} of ${service} cannot be ${verb}ed`);
  }
}
