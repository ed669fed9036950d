// Listeners, and the certificates that they show.

import { at, badge, cell, keep, make, naming, paint, row, say, show } from "./page.js";
import { date, number, span } from "./words.js";

/** A certificate that ends within so many days is not renewed as it should be. */
const SOON = 14;

export function listeners(known) {
  keep(at("listener-rows"), known.listeners, (listener) => listener.name, listenerRow);
  const shown = known.listeners.flatMap(({ name, certificates }) => certificates.map((one) => ({ ...one, listener: name })));
  keep(at("certificate-rows"), shown, ({ listener, serial, file }) => `${listener} ${file} ${serial}`, certificateRow);
  show(at("certificate-table"), shown.length > 0);
  show(at("certificates-none"), shown.length === 0);
}

function listenerRow() {
  const name = make("span");
  const [address, speaks, connections] = [cell("Address"), cell("Speaks"), cell("Connections", "number")];
  const update = (listener) => {
    say(name, listener.name);
    say(address, listener.address);
    say(speaks, kinds(listener).join(", "));
    say(connections, `${number(listener.connections)} of ${number(listener.max_connections)}`);
  };
  return { element: row(naming(name), address, speaks, connections), update };
}

function kinds({ tls, redirect_https: redirects, proxy_protocol: proxied }) {
  const kinds = [tls ? "https" : "http"];
  if (redirects) kinds.push("sends to https");
  if (proxied) kinds.push("PROXY protocol");
  return kinds;
}

function certificateRow() {
  const [names, about, ends, left] = [make("span"), make("span", { class: "muted small" }), make("span", { class: "space" }), badge("", "")];
  const listener = cell("Listener");
  const update = (certificate) => {
    say(names, certificate.names.join(", ") || certificate.subject);
    say(about, `${certificate.file}, serial ${certificate.serial}`);
    say(listener, certificate.listener);
    say(ends, date(certificate.not_after));
    paint(left, ...remaining(certificate.not_after));
  };
  return { element: row(naming(names, about), listener, cell("Valid until", "", ends, left)), update };
}

function remaining(end) {
  const seconds = (new Date(end) - Date.now()) / 1000;
  if (seconds < 0) return ["bad", "has ended"];
  return [seconds < SOON * 86_400 ? "warn" : "good", `${span(seconds)} left`];
}
