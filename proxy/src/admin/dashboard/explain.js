// The field that explains a request: what would become of it, and why. Nothing is sent to anybody.

import { Denied, get } from "./api.js";
import { at, badge, make } from "./page.js";
import { percent } from "./words.js";

/** As many routes that were not taken as anybody reads. */
const MOST_ROUTES = 20;

/** Listens to the form; `denied` is called when the API wants a token. */
export function explain(denied) {
  at("explain").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      at("explained").replaceChildren(...explanation(await get(`/api/explain?${question()}`)));
    } catch (error) {
      if (error instanceof Denied) denied(error);
      at("explained").replaceChildren(make("p", { class: "note bad" }, error.message));
    }
  });
}

/** The listeners to choose from. */
export function listenersToAsk(listeners) {
  const select = at("explain-listener");
  const names = listeners.map((listener) => listener.name);
  const offered = [...select.options].slice(1).map((option) => option.value);
  if (names.join("\n") === offered.join("\n")) return;
  select.replaceChildren(select.options[0], ...names.map((name) => make("option", { value: name }, name)));
}

function question() {
  const asked = new URLSearchParams({ method: at("explain-method").value, url: at("explain-url").value.trim() });
  const more = { client: at("explain-client").value.trim(), listener: at("explain-listener").value };
  Object.entries(more).filter(([, value]) => value !== "").forEach(([name, value]) => asked.append(name, value));
  const lines = at("explain-headers").value.split("\n").map((line) => line.trim());
  lines.filter((line) => line !== "").forEach((line) => asked.append("header", line));
  return asked;
}

function explanation(told) {
  const taken = told.routes.find((route) => route.taken);
  return [
    verdict(told, taken),
    make("dl", { class: "told" },
      ...term("Listener", [`${told.listener}: ${told.listener_why}`]),
      ...term("Client", [told.client_why ? `${told.client} (${told.client_why})` : told.client]),
      ...term("Certificate", told.certificate ? [told.certificate] : []),
      ...term("Not taken", others(told.routes)),
      ...term("Middlewares", told.middlewares.map(middleware)),
      ...term("Endpoints", (told.service?.endpoints ?? []).map(endpoint)),
      ...term("Sticky", told.service?.sticky ? [told.service.sticky] : []),
      ...term("Retry", told.service?.retry ?? []),
    ),
    ...head(told.upstream),
  ];
}

/** What becomes of it, in a sentence. */
function verdict({ request, service, reply }, taken) {
  const route = taken ? `route ${taken.name}` : "no route";
  if (reply === null) {
    return make("p", { class: "note good" }, badge("good", route), ` ${request} goes to service ${service.name}.`);
  }
  const where = reply.location ? ` to ${reply.location}` : "";
  const who = reply.middleware ? ` by ${reply.middleware}` : "";
  const kind = reply.status < 400 ? "good" : "bad";
  return make("p", { class: `note ${kind}` }, badge(kind, route), ` ${request} is answered ${reply.status} ${reply.reason}${who}${where}: ${reply.detail}.`);
}

function term(name, lines) {
  if (lines.length === 0) return [];
  return [make("dt", {}, name), make("dd", {}, ...lines.map((line) => make("p", {}, line)))];
}

function others(routes) {
  const left = routes.filter((route) => !route.taken);
  const told = left.slice(0, MOST_ROUTES).map((route) => `${route.name}: ${route.why}`);
  return left.length > MOST_ROUTES ? [...told, `and ${left.length - MOST_ROUTES} more`] : told;
}

function middleware({ name, request, response }) {
  const effects = [...request, ...response.map((effect) => `in the response ${effect}`)];
  return `${name}: ${effects.join("; ") || "changes nothing here"}`;
}

const endpoint = ({ name, state, chance, why }) => `${name}, ${state}: ${percent(chance)}${why ? `, ${why}` : ""}`;

/** The head as it would go upstream. */
function head(upstream) {
  if (upstream === null) return [];
  const lines = [`${upstream.method} ${upstream.target}`, ...upstream.headers.map(([name, value]) => `${name}: ${value}`)];
  const text = make("pre", { tabindex: 0, role: "region", "aria-label": "Head sent upstream" }, lines.join("\n"));
  return [make("details", {}, make("summary", {}, "The head that the endpoint would see"), text)];
}
