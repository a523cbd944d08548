/** The models: their workers, their figures, and their memory beside what they were granted. */

import { fill, h } from "../shared/dom.js";
import { duration, memory, number } from "../shared/format.js";
import { table, tableRow } from "../shared/table.js";

/** @typedef {import("../shared/feed.js").Model} Model */

const HEADS = ["Model", "State", "Workers", "Rows", "Waiting", "Tokens/s", "First token", "Gap", "Known", "Memory"];

export function makeModels() {
  const rows = h("tbody", {});
  const ledger = h("p", { class: "quiet" });
  const element = h(
    "section",
    { class: "card", "aria-label": "Models" },
    h("header", {}, h("h2", {}, "Models"), ledger),
    table(HEADS, rows),
  );

  /** @param {import("../shared/feed.js").State} state */
  function show({ models, memory_limit_bytes: limit }) {
    const held = models.reduce((total, model) => total + model.memory_bytes, 0);
    fill(ledger, `${share(held, limit)} in use`);
    fill(rows, ...models.map(row));
    if (!models.length)
      fill(rows, h("tr", {}, h("td", { colspan: HEADS.length, class: "quiet" }, "No model is loaded.")));
  }
  return { element, show };
}

/** @param {Model} model */
function row(model) {
  return tableRow(
    HEADS,
    h("th", { class: "name", scope: "row" }, model.name),
    h(
      "td",
      {},
      h("span", { class: `state ${model.state}` }, stateOf(model)),
      model.error && h("p", { class: "problem" }, model.error),
    ),
    h("td", {}, workers(model)),
    h("td", { class: "number" }, `${model.rows_used}/${model.rows_granted}`),
    h("td", { class: "number" }, model.waiting),
    h("td", { class: "number" }, model.tokens_per_s === null ? "–" : number(model.tokens_per_s, 1)),
    h("td", { class: "number" }, times(model.first_token_s)),
    h("td", { class: "number" }, times(model.gap_s)),
    h("td", { class: "number" }, model.cache_hit_rate === null ? "–" : `${number(100 * model.cache_hit_rate)} %`),
    h("td", { class: "number" }, share(model.memory_bytes, model.granted_bytes)),
  );
}

/** @param {Model} model how far it is where it is being loaded */
function stateOf({ state, loading }) {
  if (!loading) return state;
  return loading.total ? `${loading.phase} ${number((100 * loading.done) / loading.total)} %` : loading.phase;
}

/** @param {Model} model */
function workers({ workers, restarts }) {
  const states = Object.entries(workers).map(([state, count]) => `${count} ${state}`);
  if (restarts) states.push(`${restarts} ${restarts === 1 ? "restart" : "restarts"}`);
  return states.join(", ") || "none";
}

/** @param {import("../shared/feed.js").Percentiles | null} found the median and the 95th percentile */
function times(found) {
  return found ? `${duration(found.p50)} / ${duration(found.p95)}` : "–";
}

/**
 * @param {number} held in bytes
 * @param {number | null} granted 0 until it is known
 */
function share(held, granted) {
  return !granted ? memory(held) : `${memory(held)} of ${memory(granted)}`;
}
