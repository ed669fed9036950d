// The last fifteen minutes as this page knows them: asked for once whole, then only what is new.

/** Twelve steps of five seconds. */
const MINUTE = 12;

export class History {
  constructor() {
    this.forget();
  }

  forget() {
    this.since = null;
    this.last = 0;
    this.until = null;
    this.step = 5;
    this.kept = 180;
    this.whole = {};
    this.services = {};
    this.routes = {};
    this.endpoints = {};
  }

  /** Takes in what was told; false if it is of another process, and everything has to be asked for anew. */
  take(told) {
    if (this.since !== null && told.since !== this.since) {
      this.forget();
      return false;
    }
    // Two questions at once get the same steps twice.
    this.fresh = Math.max(0, told.last - this.last);
    this.last += this.fresh;
    Object.assign(this, { since: told.since, until: told.until, step: told.step_seconds, kept: told.kept });
    this.whole = this.joined(this.whole, told.whole);
    this.services = this.each(this.services, told.services);
    this.routes = this.each(this.routes, told.routes);
    for (const [service, endpoints] of Object.entries(told.endpoints)) {
      told.endpoints[service] = this.each(this.endpoints[service] ?? {}, endpoints);
    }
    this.endpoints = told.endpoints;
    return true;
  }

  /** Of what is gone nothing is told any more. */
  each(known, told) {
    return Object.fromEntries(Object.entries(told).map(([name, news]) => [name, this.joined(known[name] ?? {}, news)]));
  }

  joined(known, news) {
    const join = ([name, values]) => {
      if (!Array.isArray(values)) return [name, this.joined(known[name] ?? {}, values)];
      return [name, [...(known[name] ?? []), ...values.slice(Math.max(0, values.length - this.fresh))].slice(-this.kept)];
    };
    return Object.fromEntries(Object.entries(news).map(join));
  }

  /** When the step that is so many before the last one ended. */
  time(back) {
    return new Date(this.until).getTime() - 1000 * this.step * back;
  }
}

/** The value of the last step. */
export const now = (values) => values?.at(-1);

/** The mean over the last minute. */
export function lately(values) {
  const last = values?.slice(-MINUTE) ?? [];
  return last.length === 0 ? 0 : last.reduce((sum, value) => sum + value, 0) / last.length;
}

/** The share that failed within the last minute; null if there was nothing. */
export function failedLately(columns) {
  const requests = lately(columns?.requests);
  return requests > 0 ? lately(columns.failed) / requests : null;
}

/** The last latency that there was within the last minute. */
export function latency(values) {
  return values?.slice(-MINUTE).findLast((value) => value !== null);
}
