// Numbers and times in words. A number and its unit stay on one line.

const NO_BREAK = "\u00a0";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** A rate or a count: two digits if it is small, whole if not. */
export function number(value) {
  if (value === undefined || value === null) return "–";
  return Math.abs(value) < 10 ? fine.format(value) : whole.format(value);
}

/** Milliseconds, or seconds if there are many. */
export function millis(value) {
  if (value === undefined || value === null) return "–";
  return value < 1000 ? `${number(value)}${NO_BREAK}ms` : `${fine.format(value / 1000)}${NO_BREAK}s`;
}

/** A share between 0 and 1. */
export function percent(share) {
  if (share === undefined || share === null || Number.isNaN(share)) return "–";
  if (share > 0 && share < 0.001) return `<${NO_BREAK}0.1${NO_BREAK}%`;
  return `${share < 0.1 ? fine.format(100 * share) : whole.format(100 * share)}${NO_BREAK}%`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** The time of day, with the day if that is another one. */
export function moment(time) {
  const date = new Date(time);
  const today = day.format(date) === day.format(new Date());
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

export const date = (time) => day.format(new Date(time));

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** A length of time in its greatest unit: `3 minutes`. */
export function span(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);
  const count = Math.max(0, Math.floor(seconds / size));
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** How long ago, to be read beside a name. */
export const since = (time) => span((Date.now() - new Date(time)) / 1000);
