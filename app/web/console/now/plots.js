/** Plots of all models together. */

import { h } from "../shared/dom.js";
import { duration, number } from "../shared/format.js";
import { makePlot } from "./plot.js";

/** @typedef {import("../shared/feed.js").State} State */

export function makePlots() {
  /** @type {number | null} answers with 429 so far; null where a second ago it was not known */
  let refused = null;
  const speed = makePlot("Tokens per second", [""], (value) => number(value, 1));
  const requests = makePlot("Requests", ["running", "waiting"], number);
  const first = makePlot("Time to first token", ["p50", "p95"], duration);
  const gap = makePlot("Time between tokens", ["p50", "p95"], duration);
  const known = makePlot("Prompts known from the cache", [""], (value) => `${number(100 * value)} %`);
  const turned = makePlot("Answers with 429, per second", [""], number);
  const plots = [speed, requests, first, gap, known, turned];
  const element = h(
    "section",
    { class: "card plots", "aria-label": "The last minutes" },
    h("header", {}, h("h2", {}, "The last minutes"), h("small", {}, "since this view was opened")),
    ...plots.map((plot) => plot.element),
  );

  /** @param {State} state */
  function add({ models, too_many_requests: all }) {
    speed.add([sum(models.map((model) => model.tokens_per_s ?? 0))]);
    requests.add([sum(models.map((model) => model.running)), sum(models.map((model) => model.waiting))]);
    first.add(slowest(models.map((model) => model.first_token_s)));
    gap.add(slowest(models.map((model) => model.gap_s)));
    known.add([most(models.map((model) => model.cache_hit_rate))]);
    turned.add([refused === null ? null : Math.max(0, all - refused)]);
    refused = all;
  }

  /** Leave a gap before what comes: nobody listened, and the server may be another one. */
  function begin() {
    refused = null;
    for (const plot of plots) plot.skip();
  }
  return { element, add, begin };
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/** @param {(number | null)[]} values */
function most(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
}

/**
 * Percentiles of several models can't be made one: those of the slowest are shown.
 * @param {(import("../shared/feed.js").Percentiles | null)[]} found
 */
function slowest(found) {
  return [most(found.map((one) => one?.p50 ?? null)), most(found.map((one) => one?.p95 ?? null))];
}
