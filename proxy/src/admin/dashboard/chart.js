// Small charts of the last fifteen minutes, drawn as SVG. The newest step is at the right edge.
//
// A drawing is 180 wide and 100 high, whatever it measures on the screen; strokes keep their width by CSS.

import { draw, make, mark, say } from "./page.js";
import { moment } from "./words.js";

const WIDTH = 179;
const HEIGHT = 100;

const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** The least of a few round numbers that is not below the value, so that the scale seldom changes. */
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.map((step) => step * power).find((step) => step >= value * 0.999);
}

const across = (index, length) => WIDTH - (length - 1 - index);
const up = (value, most) => (HEIGHT - (HEIGHT - 3) * Math.min(1, value / most)).toFixed(2);

/** A line through the values; where there is none it is interrupted. */
function line(values, most) {
  let path = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const goesOn = index > 0 && values[index - 1] !== null;
    const x = across(index, values.length);
    // A value alone is a dot, which is a short line.
    path += goesOn ? `L${x} ${up(value, most)}` : `M${x - 0.4} ${up(value, most)}L${x} ${up(value, most)}`;
  });
  return path;
}

/** The area between two lines. */
function area(lower, upper, most) {
  if (upper.length === 0) return "";
  const there = upper.map((value, index) => `${across(index, upper.length)} ${up(value, most)}`);
  const back = lower.map((value, index) => `${across(index, lower.length)} ${up(value, most)}`).reverse();
  return `M${there.join("L")}L${back.join("L")}Z`;
}

/** Each layer on top of those before it. */
function stack(layers) {
  const sums = [layers[0].map(() => 0)];
  layers.forEach((layer) => sums.push(layer.map((value, index) => value + sums.at(-1)[index])));
  return sums;
}

/** A line of words' height, without a scale: how it went. */
export function sparkline(kind = "") {
  const [shade, path] = [draw("path", { class: `shade ${kind}` }), draw("path", { class: `line ${kind}` })];
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const element = draw("svg", { class: "spark", ...box }, shade, path);
  const update = (values = []) => {
    const most = Math.max(...values, 1e-9);
    mark(path, "d", line(values, most));
    mark(shade, "d", area(values.map(() => 0), values, most));
  };
  return { element, update };
}

/**
 * A chart of several values. `layers` are `[name, class]`, `format` puts a value into words, `stacked` piles them up,
 * `least` is the least height of the scale.
 */
export function chart({ layers, format, stacked = false, least = 0 }) {
  const paths = layers.map(([, kind]) => draw("path", { class: `${stacked ? "area" : "line"} ${kind}` }));
  const cursor = draw("line", { class: "cursor", y1: 0, y2: HEIGHT });
  const grid = draw("path", { class: "grid", d: `M0 3H${WIDTH}M0 51.5H${WIDTH}M0 99.6H${WIDTH}` });
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, grid, paths, cursor);
  const [scale, foot] = [make("span", { class: "scale" }), make("span")];
  const below = make("p", { class: "foot" }, foot, make("span", { class: "now" }, "now"));
  const element = make("div", { class: "chart" }, picture, scale, below);
  const shown = { columns: layers.map(() => []), history: null, cursor };

  const rest = () => {
    mark(element, "class", shown.place === undefined ? "chart" : "chart pointed");
    say(foot, words(shown, layers, format) ?? "15 min ago");
  };
  picture.addEventListener("pointermove", (event) => point(event, picture, shown, rest));
  picture.addEventListener("pointerleave", () => {
    shown.place = undefined;
    rest();
  });

  const update = (columns, history) => {
    Object.assign(shown, { columns, history });
    const sums = stacked ? stack(columns) : columns;
    const most = roundUp(Math.max(least, ...sums.flat().filter((value) => value !== null)));
    paths.forEach((path, index) => {
      mark(path, "d", stacked ? area(sums[index], sums[index + 1], most) : line(columns[index], most));
    });
    say(scale, format(most));
    mark(picture, "aria-label", summary(columns, layers, format));
    rest();
  };
  return { element, update };
}

/** Moves the cursor to the step under the pointer. */
function point(event, picture, shown, then) {
  const { left, width } = picture.getBoundingClientRect();
  const length = shown.columns[0].length;
  const place = Math.round(((event.clientX - left) / width) * WIDTH) - (WIDTH - (length - 1));
  if (length === 0) return;
  shown.place = Math.min(length - 1, Math.max(0, place));
  mark(shown.cursor, "x1", across(shown.place, length));
  mark(shown.cursor, "x2", across(shown.place, length));
  then();
}

/** What the step under the cursor has; nothing while there is no cursor. */
function words({ columns, history, place }, layers, format) {
  if (place === undefined || history === null) return undefined;
  const figures = layers.map(([name], index) => `${name} ${format(columns[index][place])}`);
  return `${moment(history.time(columns[0].length - 1 - place))}  ${figures.join("  ")}`;
}

/** The chart for who does not see it. */
function summary(columns, layers, format) {
  const one = ([name], index) => {
    const values = columns[index].filter((value) => value !== null);
    if (values.length === 0) return `${name}: nothing yet`;
    return `${name}: now ${format(columns[index].at(-1))}, at most ${format(Math.max(...values))}`;
  };
  return `The last 15 minutes. ${layers.map(one).join("; ")}`;
}
