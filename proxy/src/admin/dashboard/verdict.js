// What is wrong, in one sentence. Pure: told what is known, it says what an operator has to know first.

import { failedLately } from "./history.js";
import { moment, percent } from "./words.js";

/** As much as one reads at a glance. */
const MOST = 3;

/** A certificate that ends within so many days is spoken of. */
const SOON = 14;

/** A share of failures above this is trouble. */
const TOO_MANY = 0.01;

/** `{ kind, text }`: `bad`, `warn` or `good`, and the sentence. */
export function verdict(known) {
  const found = [
    ...phase(known.status),
    ...known.services.flatMap(endpoints),
    ...failures(known.history),
    ...refusal(known.status),
    ...known.listeners.flatMap((listener) => listener.certificates.flatMap(certificate)),
  ];
  if (found.length === 0) return { kind: "good", text: wellness(known.services) };
  const kind = found.some(([kind]) => kind === "bad") ? "bad" : "warn";
  const told = found.slice(0, MOST).map(([, text]) => text);
  const more = found.length > MOST ? [`and ${found.length - MOST} more`] : [];
  const sentence = [...told, ...more].join("; ");
  return { kind, text: `${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}.` };
}

function wellness(services) {
  const all = services.flatMap((service) => service.endpoints);
  const available = all.filter((endpoint) => endpoint.available).length;
  return `All is well: ${available} of ${all.length} endpoints are available.`;
}

function phase({ phase }) {
  if (phase === "draining") return [["warn", "the process drains: it ends what is in flight and takes nothing new"]];
  return phase === "starting" ? [["warn", "the process is starting"]] : [];
}

/** Of one service: who is down, ejected or cut off. */
function endpoints(service) {
  const all = service.endpoints;
  const down = all.filter((one) => one.state === "down");
  if (service.available === 0 && all.length > 0) {
    return [["bad", `no endpoint of ${service.name} is available${why(down)}`]];
  }
  const told = [
    [down, "down"],
    [all.filter((one) => one.ejected && one.state !== "down"), "ejected"],
    [all.filter((one) => one.circuit === "open" && !one.ejected && one.state !== "down"), "cut off by the circuit breaker"],
  ];
  return told.filter(([who]) => who.length > 0).map(([who, what]) => {
    const verb = who.length === 1 ? "is" : "are";
    return ["bad", `${who.length} of ${all.length} endpoints of ${service.name} ${verb} ${what}${who === down ? why(down) : ""}`];
  });
}

/** What the health check said of the first one, without the count of probes. */
function why([first]) {
  return first === undefined ? "" : `: ${first.why.replace(/^.*(?:the last one|the first probe failed): /, "")}`;
}

function failures(history) {
  const share = failedLately(history.whole);
  if (share === null || share <= TOO_MANY) return [];
  return [["bad", `${percent(Math.max(0.01, Math.round(100 * share) / 100))} of the requests of the last minute failed`]];
}

function refusal({ refused_at: at, generation }) {
  return at === null ? [] : [["bad", `the config of ${moment(at)} was refused, generation ${generation} goes on serving`]];
}

function certificate({ names, subject, not_after: end }) {
  const days = Math.floor((new Date(end) - Date.now()) / 86_400_000);
  if (days >= SOON) return [];
  const whose = names[0] ?? subject;
  if (days < 0) return [["bad", `the certificate of ${whose} has ended`]];
  return [["warn", `the certificate of ${whose} ends in ${days} ${days === 1 ? "day" : "days"}`]];
}
