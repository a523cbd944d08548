/** Plots of all models together. */

import { h } from "../shared/dom.js";
import { duration, number } from "../shared/format.js";
import { makePlot } from "./plot.js";

/** @typedef {import("../shared/feed.js").LivePoint} LivePoint */
/** @typedef {import("../shared/feed.js").Percentiles} Percentiles */

/** A plot's title, its lines' names, how its values are written, and which of a point's they are. */
/** @type {[string, string[], (value: number) => string, (point: LivePoint) => (number | null)[]][]} */
const PLOTS = [
  ["Tokens per second", [""], (value) => number(value, 1), (point) => [point.tokens_per_s]],
  ["Requests", ["running", "waiting"], number, (point) => [point.running, point.waiting]],
  ["Time to first token", ["p50", "p95"], duration, (point) => middleAndMost(point.first_token_s)],
  ["Time between tokens", ["p50", "p95"], duration, (point) => middleAndMost(point.gap_s)],
  ["Prompts known from the cache", [""], (value) => `${number(100 * value)} %`, (point) => [point.cache_hit_rate]],
  ["Answers with 429, per second", [""], (value) => number(value, 1), (point) => [point.refused_per_s]],
];

export function makePlots() {
  const plots = PLOTS.map(([title, names, text, values]) => ({ ...makePlot(title, names, text), values }));
  const element = h(
    "section",
    { class: "card plots", "aria-label": "The last minutes" },
    h("header", {}, h("h2", {}, "The last minutes")),
    ...plots.map((plot) => plot.element),
  );

  /** @param {import("../shared/feed.js").State} state with what was before, if it is the first of its stream */
  function add({ history, now }) {
    const arrived = performance.now();
    for (const { begin, add, values } of plots) {
      const at = (/** @type {LivePoint} */ point) => ({ at: arrived - 1000 * point.age_s, values: values(point) });
      if (history) begin(history.map(at));
      add(at(now));
    }
  }
  return { element, add };
}

/** @param {Percentiles | null} found */
function middleAndMost(found) {
  return [found?.p50 ?? null, found?.p95 ?? null];
}
