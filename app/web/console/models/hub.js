/** Models on the Hugging Face hub, and whether they fit. */

import { askJson } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { bytes, inBytes, memory, number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { table, tableRow } from "../shared/table.js";

const HEADS = ["Model", "Type", "Size", "Memory", "Downloads", "Actions"];

/** @param {(id: string) => void} download */
export function makeHub(download) {
  const query = h("input", {
    type: "search",
    placeholder: "Qwen3, Gemma, mlx-community/…",
    "aria-label": "Search the hub",
    maxlength: 200,
  });
  const sort = h(
    "select",
    { "aria-label": "Order", onchange: search },
    ...["downloads", "likes", "updated", "created"].map((one) => h("option", {}, one)),
  );
  const found = h("div", { "aria-live": "polite" });
  /** What was found last. @type {any[]} */
  let models = [];
  /** Names of the models that are here. @type {Set<string>} */
  let here = new Set();
  /** Memory for models, in bytes. @type {number | null} */
  let limit = null;
  /** The search under way, which the next one ends. */
  let open = new AbortController();
  const element = h(
    "section",
    { class: "card", "aria-label": "The hub" },
    h("header", {}, h("h2", {}, "Get a model"), h("small", {}, "from the Hugging Face hub")),
    h(
      "form",
      { class: "row search", onsubmit: search },
      h("div", { class: "grow" }, query),
      h("div", {}, sort),
      h("button", { class: "primary" }, icon("search"), "Search"),
    ),
    found,
  );

  /** @param {Event} event */
  async function search(event) {
    event.preventDefault();
    open.abort();
    const { signal } = (open = new AbortController());
    models = [];
    fill(found, h("p", { class: "waiting" }, "Asking the hub"));
    try {
      const wanted = new URLSearchParams({
        query: query.value.trim(),
        sort: sort.value,
        limit: "20",
      });
      models = (await askJson(`/v1/discover/models?${wanted}`, { signal })).models;
      if (models.length) show();
      else fill(found, h("p", { class: "quiet" }, "Nothing of that name."));
    } catch (error) {
      if (signal.aborted) return;
      fill(found, h("p", { class: "problem", role: "alert" }, /** @type {Error} */ (error).message));
    }
  }

  function show() {
    fill(found, table(HEADS, h("tbody", {}, ...models.map((model) => row(model, limit, here, download)))));
  }

  /**
   * Compare what was found with what is here.
   * @param {string[]} names of the models
   * @param {number | null} most that models may take, in bytes
   */
  function compare(names, most) {
    here = new Set(names);
    limit = most;
    if (models.length) show();
  }
  return { element, compare };
}

/**
 * @param {any} model as `GET /v1/discover/models` has it
 * @param {number | null} limit in bytes
 * @param {Set<string>} here names of the models that this server has
 * @param {(id: string) => void} download
 */
function row(model, limit, here, download) {
  const needs = inBytes(model.estimated_memory_gb);
  const isTooLarge = needs !== null && limit !== null && needs > limit;
  const fits = needs === null || limit === null ? "" : isTooLarge ? "too large" : "fits";
  return tableRow(
    HEADS,
    h("th", { scope: "row", class: "name" }, model.id),
    h("td", {}, h("span", { class: "tag" }, model.model_type)),
    h("td", { class: "number" }, model.size_gb === null ? "–" : bytes(model.size_gb * 1e9)),
    h(
      "td",
      { class: "number" },
      memory(needs),
      fits && " · ",
      fits && h("span", { class: isTooLarge && "problem" }, fits),
    ),
    h("td", { class: "number" }, number(model.downloads)),
    h(
      "td",
      { class: "acts" },
      here.has(model.id)
        ? h("span", { class: "quiet" }, "is here")
        : h(
            "button",
            {
              type: "button",
              "aria-label": `Download ${model.id}`,
              "data-keep": `download ${model.id}`,
              onclick: () => download(model.id),
            },
            icon("download"),
            "Download",
          ),
    ),
  );
}
