/** Models on the Hugging Face hub, and whether they fit. */

import { askJson } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { memory, number } from "../shared/format.js";
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
    fill(found, h("p", { class: "waiting" }, "Asking the hub"));
    try {
      const wanted = new URLSearchParams({
        query: query.value.trim(),
        sort: sort.value,
        limit: "20",
      });
      const [{ models }, status] = await Promise.all([
        askJson(`/v1/discover/models?${wanted}`),
        askJson("/v1/manager/status"),
      ]);
      fill(
        found,
        models.length
          ? results(models, status.system_status.memory_limit_gb, download)
          : h("p", { class: "quiet" }, "Nothing of that name."),
      );
    } catch (error) {
      fill(found, h("p", { class: "problem", role: "alert" }, /** @type {Error} */ (error).message));
    }
  }
  return { element };
}

/**
 * @param {any[]} models as `GET /v1/discover/models` has them
 * @param {number | null} limitGb
 * @param {(id: string) => void} download
 */
function results(models, limitGb, download) {
  return table(HEADS, h("tbody", {}, ...models.map((model) => row(model, limitGb, download))));
}

/**
 * @param {any} model
 * @param {number | null} limitGb
 * @param {(id: string) => void} download
 */
function row(model, limitGb, download) {
  const needs = model.estimated_memory_gb;
  const isTooLarge = needs !== null && limitGb !== null && needs > limitGb;
  const fits = needs === null || limitGb === null ? "" : isTooLarge ? "too large" : "fits";
  return tableRow(
    HEADS,
    h("th", { scope: "row", class: "name" }, model.id),
    h("td", {}, h("span", { class: "tag" }, model.model_type)),
    h("td", { class: "number" }, model.size_gb === null ? "–" : `${number(model.size_gb, 2)} GB`),
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
      h(
        "button",
        {
          type: "button",
          "aria-label": `Download ${model.id}`,
          onclick: () => download(model.id),
        },
        icon("download"),
        "Download",
      ),
    ),
  );
}
