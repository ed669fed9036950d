// Elements of the page: made, filled and kept up to date, and no text is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the skeleton with this id. */
export const at = (id) => document.getElementById(id);

/** An element. Attributes that are functions listen (`onclick`), `undefined` and `false` are left out. */
export function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function draw(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets a text if it is another one: what is not touched is neither drawn nor read out again. */
export function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Sets an attribute if it is another one. */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Shows or hides an element. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

const kept = new WeakMap();

/**
 * Brings the children of `parent` to `items`, one by `key` each. `create` makes `{ element, update }` once; after that only
 * `update` is called, so that the focus stays where it is.
 */
export function keep(parent, items, key, create) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [key(item), before.get(key(item)) ?? create(item)]));
  for (const [name, entry] of before) if (now.get(name) !== entry) entry.element.remove();
  items.forEach((item) => now.get(key(item)).update(item));
  [...now.values()].forEach((entry, place) => {
    if (parent.children[place] !== entry.element) parent.insertBefore(entry.element, parent.children[place] ?? null);
  });
  kept.set(parent, now);
}

/** A cell that says what it is where there is no room for a heading. Roles, because it is no table cell to CSS then. */
export function cell(label, kind = "", ...children) {
  return make("td", { "data-label": label, class: kind, role: "cell" }, ...children);
}

/** The cell that names its row. */
export function naming(...children) {
  return make("th", { scope: "row", role: "rowheader" }, ...children);
}

export function row(...cells) {
  return make("tr", { role: "row" }, ...cells);
}

/** A word with a colour; the word says it without the colour, too. */
export function badge(kind, text) {
  const element = make("span", { class: "badge" });
  paint(element, kind, text);
  return element;
}

export function paint(element, kind, text) {
  mark(element, "class", `badge ${kind}`.trim());
  say(element, text);
}

/** Roles of the tables in the skeleton, which CSS makes something else on a phone. */
export function nameTables() {
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", "th[scope=col]": "columnheader" };
  for (const [selector, role] of Object.entries(roles)) {
    document.querySelectorAll(`main ${selector}`).forEach((element) => element.setAttribute("role", role));
  }
}

let fading;

/** Tells everybody of something that was done, for as long as it takes to read it. */
export function tell(text) {
  say(at("said"), text);
  clearTimeout(fading);
  fading = setTimeout(() => say(at("said"), ""), 5000 + 60 * text.length);
}
