// The admin API as this page uses it: the token, questions, orders, and the stream of events.

/** In this tab only, and gone with it. */
const KEY = "waypost-admin-token";

/** How long an answer may take. */
const PATIENCE = 5000;

/** The API wants to know who asks. `code` is its word for why. */
export class Denied extends Error {
  constructor(code, detail) {
    super(detail);
    this.code = code;
  }
}

/** The API has answered with this `status` that it will not do it; `problems` are those of a config. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.detail ?? `status ${status}`);
    this.status = status;
    this.problems = body.problems ?? [];
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  keep: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** A header takes bytes, each as one character, and the token is compared byte by byte. */
function bearer() {
  const shown = token.get();
  if (shown === null) return {};
  return { authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(shown))}` };
}

async function send(path, options = {}) {
  const headers = { ...bearer(), ...options.headers };
  const response = await fetch(path, { cache: "no-store", redirect: "error", ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  if (response.status === 401 || response.status === 403) throw new Denied(body.error, body.detail);
  throw new Refused(response.status, body);
}

/** Asks. */
export async function get(path) {
  return (await send(path, { signal: AbortSignal.timeout(PATIENCE) })).json();
}

/** Asks for what has to be worked out first: it has no limit. */
export async function getSlowly(path) {
  return (await send(path)).json();
}

/** Orders. A reload may take longer than an answer: it has no limit. */
export async function post(path) {
  return (await send(path, { method: "POST" })).json();
}

/**
 * Hears of events from the one after `last` on, until `signal` says so; `begun` is called when it is let in. Not by
 * EventSource, which cannot show a token.
 */
export async function listen(last, { begun, hear }, signal) {
  const headers = { accept: "text/event-stream", "last-event-id": String(last) };
  const response = await send("/api/events", { headers, signal });
  begun();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    blocks.map(data).filter(Boolean).forEach((event) => hear(JSON.parse(event)));
  }
}

/** What a block of the stream carries; nothing, if it is a comment to keep the connection alive. */
function data(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trim()).join("\n");
}
