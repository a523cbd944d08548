/** Measures a loaded model, and draws what came out. */

import { askJson, inPath } from "../shared/api.js";
import { field, fill, h } from "../shared/dom.js";
import { duration, memory, number } from "../shared/format.js";
import { listModels, writes } from "../shared/models.js";
import { bars } from "./bars.js";

export function makeBenchmark() {
  const model = h("select", {});
  const samples = h("input", {
    type: "number",
    min: 1,
    max: 100,
    value: 5,
    required: true,
  });
  const length = h("input", {
    type: "number",
    min: 1,
    max: 4096,
    value: 64,
    required: true,
  });
  const go = h("button", { class: "primary", disabled: true }, "Measure");
  const result = h("div", { class: "result", "aria-live": "polite" });
  const element = h(
    "fieldset",
    { class: "card" },
    h("legend", {}, "Benchmark"),
    h(
      "form",
      { class: "fields", onsubmit: measure },
      field("Model", model),
      field("Answers", samples),
      field("Tokens of each", length),
      go,
    ),
    result,
  );

  async function read() {
    const loaded = (await listModels()).filter((one) => writes(one) && one.status === "loaded");
    const chosen = model.value;
    fill(model, ...loaded.map(({ name }) => h("option", { value: name, selected: name === chosen }, name)));
    go.disabled = !loaded.length;
  }

  /** @param {Event} event */
  async function measure(event) {
    event.preventDefault();
    go.disabled = true;
    fill(result, h("p", { class: "waiting" }, "Measuring"));
    try {
      const body = {
        num_samples: Number(samples.value),
        max_tokens: Number(length.value),
      };
      fill(
        result,
        ...shown(
          await askJson(`/api/models/benchmark/${inPath(model.value)}`, {
            body,
          }),
        ),
      );
    } catch (error) {
      fill(result, h("p", { class: "problem", role: "alert" }, /** @type {Error} */ (error).message));
    }
    go.disabled = false;
  }
  return { element, read };
}

/** @param {any} measured answer of the benchmark's endpoint */
function shown(measured) {
  const first = measured.first_token_latency_ms;
  const facts = [
    ["Tokens a second", number(measured.tokens_per_second, 1)],
    ["First token", first === null ? "–" : duration(first / 1000)],
    ["Tokens", number(measured.total_tokens)],
    ["Time", duration(measured.total_time_seconds)],
    ["Memory", measured.memory_usage_mb === null ? "–" : memory(measured.memory_usage_mb * 2 ** 20)],
  ];
  const rates = measured.samples.map((/** @type {any} */ one) => one.tokens_per_second);
  const firsts = measured.samples.map((/** @type {any} */ one) => one.first_token_latency_ms ?? 0);
  return [
    h("dl", { class: "facts" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h(
      "div",
      { class: "charts" },
      bars("Tokens a second, answer by answer", rates, (value) => number(value, 1)),
      bars("Milliseconds until the first token", firsts, (value) => number(value)),
    ),
  ];
}
