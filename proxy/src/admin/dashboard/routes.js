// Routes: when they hold, where they lead, and how their requests fare.

import { sparkline } from "./chart.js";
import { failedLately, latency, now } from "./history.js";
import { at, cell, keep, make, naming, row, say } from "./page.js";
import { millis, number, percent } from "./words.js";

/** The row for requests that found no route; no name in a file is empty. */
const NONE = { name: "", when: ["no route holds"], listeners: [], middlewares: [], service: "answered with 404" };

export function routes(known) {
  const lost = known.history.routes[""]?.requests.some((rate) => rate > 0) ? [NONE] : [];
  const items = [...known.routes, ...lost].map((route) => ({ ...route, columns: known.history.routes[route.name] }));
  keep(at("route-rows"), items, (route) => route.name, routeRow);
}

function routeRow() {
  const [name, rate, spark] = [make("span"), make("span"), sparkline("first")];
  const when = cell("When", "long");
  const [listeners, middlewares, service] = ["Listeners", "Middlewares", "Service"].map((label) => cell(label));
  const [failed, p50, p99] = ["Failed", "p50", "p99"].map((label) => cell(label, "number"));
  const rates = cell("Requests/s", "number with-spark", spark.element, rate);
  const element = row(naming(name), when, listeners, middlewares, service, rates, failed, p50, p99);
  const update = (route) => {
    const { columns } = route;
    say(name, route.name || "(none)");
    say(when, route.when.join(", ") || "always");
    say(listeners, route.listeners.join(", ") || "–");
    say(middlewares, route.middlewares.join(", ") || "–");
    say(service, route.service);
    spark.update(columns?.requests);
    say(rate, number(now(columns?.requests)));
    say(failed, percent(columns && (failedLately(columns) ?? 0)));
    say(p50, millis(latency(columns?.p50_ms)));
    say(p99, millis(latency(columns?.p99_ms)));
  };
  return { element, update };
}
