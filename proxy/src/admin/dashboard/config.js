// The config: what was refused and why, warnings, generations and the way back to one, the text that serves.

import { getSlowly, post } from "./api.js";
import { at, badge, cell, keep, make, naming, row, say, tell } from "./page.js";
import { moment, number } from "./words.js";

/** Listens to the buttons. `changed` is called when something was published, `failed` with the error when not. */
export function configOrders({ changed, failed }) {
  at("reload").addEventListener("click", () => publish("/api/reload", "The file is refused", { changed, failed }));
  at("rollback-cancel").addEventListener("click", () => at("rollback").close());
  at("rollback-do").addEventListener("click", async () => {
    const number = at("rollback").dataset.generation;
    at("rollback").close();
    await publish(`/api/rollback?to=${number}`, `Generation ${number} cannot serve`, { changed, failed });
  });
}

async function publish(path, trouble, { changed, failed }) {
  try {
    const { generation, changes } = await post(path);
    tell(changes.length === 0 ? "Nothing has changed." : `Generation ${generation} serves: ${changes.join(", ")}.`);
    await changed();
  } catch (error) {
    failed(error, trouble);
    await changed();
  }
}

export function config({ config, generations, status }, failed) {
  say(at("config-path"), config.path ?? "no file");
  say(at("config-text"), config.text);
  refusal(config.refused);
  warnings(config.warnings);
  const items = generations.map((one) => ({ ...one, serves: one.generation === status.generation }));
  keep(at("generation-rows"), items, (one) => `${one.generation} ${one.serves}`, (one) => generationRow(one, failed));
}

function refusal(refused) {
  const key = JSON.stringify(refused);
  if (at("refused").dataset.key === key) return;
  at("refused").dataset.key = key;
  const told = refused === null ? [] : [
    make("h3", {}, badge("bad", "refused"), ` The file was refused at ${moment(refused.at)}; what served before goes on serving.`),
    make("ul", { class: "problems" }, ...refused.problems.map(problem)),
  ];
  at("refused").replaceChildren(...told);
}

function warnings(all) {
  const key = JSON.stringify(all);
  if (at("warnings").dataset.key === key) return;
  at("warnings").dataset.key = key;
  const title = make("summary", {}, badge("warn", `${all.length} ${all.length === 1 ? "warning" : "warnings"}`), " doubtful in what serves");
  const told = make("details", {}, title, make("ul", { class: "problems" }, ...all.map(problem)));
  at("warnings").replaceChildren(...(all.length > 0 ? [told] : []));
}

/** A mistake or a doubt: where, what, and what to do about it. */
function problem({ file, line, column, path, message, hint, lint }) {
  const place = [file?.split("/").at(-1), line, column].filter((part) => part !== undefined).join(":");
  const where = [place, path, lint].filter(Boolean).join("  ");
  return make("li", {}, make("code", {}, where), make("p", {}, message), hint && make("p", { class: "muted" }, `Hint: ${hint}`));
}

function generationRow(one, failed) {
  const [since, by, changes] = [cell("Since"), cell("By"), cell("What changed", "long")];
  const button = make("button", { type: "button", "aria-label": `Return to generation ${one.generation}`, onclick: () => ask(one.generation, failed) }, "Return …");
  const name = naming(String(one.generation), one.serves ? badge("good", "serves") : undefined);
  const element = row(name, since, by, changes, cell("", "action", one.serves ? undefined : button));
  const update = ({ published, origin, changes: what }) => {
    say(since, moment(published));
    say(by, origin);
    say(changes, what.join(", ") || "–");
  };
  return { element, update };
}

/** Shows what a rollback would change, and does it if that is what is wanted. */
async function ask(generation, failed) {
  const dialog = at("rollback");
  say(at("rollback-title"), `Return to generation ${generation}?`);
  say(at("rollback-do"), `Roll back to ${generation}`);
  at("rollback-diff").replaceChildren(make("p", { class: "muted" }, "Asking what that would change …"));
  dialog.dataset.generation = generation;
  at("rollback-do").disabled = true;
  dialog.showModal();
  // Another one may be asked for before the answer is there.
  const stillAsked = () => dialog.open && dialog.dataset.generation === String(generation);
  try {
    const told = preview(await getSlowly(`/api/generations/${generation}/diff`));
    if (!stillAsked()) return;
    at("rollback-diff").replaceChildren(...told);
    at("rollback-do").disabled = false;
  } catch (error) {
    if (!stillAsked()) return;
    at("rollback-diff").replaceChildren(make("p", { class: "note bad" }, error.message), make("ul", { class: "problems" }, ...(error.problems ?? []).map(problem)));
    failed(error, "It cannot be said what that would change");
  }
}

function preview({ changes, touched, tests }) {
  const lines = (items) => make("ul", { class: "changes" }, ...items.map((item) => make("li", {}, item)));
  return [
    make("h3", {}, "What changes"),
    changes.length > 0 ? lines(changes) : make("p", {}, "Nothing: it says the same as what serves."),
    ...(touched.length > 0 ? [make("h3", {}, "What that means to who is connected"), lines(touched)] : []),
    ...(tests > 0 ? [make("p", { class: "muted" }, `Its own tests pass: ${number(tests)}.`)] : []),
  ];
}
