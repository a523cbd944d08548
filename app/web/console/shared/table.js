/** Tables. */

import { h } from "./dom.js";

/** Heads of columns of numbers, which stand at the right. */
const NUMBERS = new Set([
  "Age",
  "Context",
  "Downloads",
  "First token",
  "Gap",
  "Known",
  "Memory",
  "Prompt",
  "Requests a minute",
  "Rows",
  "Rows of a model",
  "Size",
  "Tokens",
  "Tokens a minute",
  "Tokens/s",
  "Waiting",
]);
const UNSEEN = "Actions";

/**
 * A row of a table, whose cells name their columns: on a phone each row is a card.
 * @param {string[]} heads
 * @param {...HTMLElement} cells
 */
export function tableRow(heads, ...cells) {
  cells.forEach((cell, at) => {
    if (heads[at] !== UNSEEN) cell.dataset.head = heads[at];
  });
  return h("tr", {}, ...cells);
}

/**
 * A table that may be scrolled sideways where it is wider than its place.
 * @param {string[]} heads
 * @param {HTMLElement} body a `tbody`
 */
export function table(heads, body) {
  const cells = heads.map((text) =>
    h(
      "th",
      { scope: "col", class: NUMBERS.has(text) && "number" },
      text === UNSEEN ? h("span", { class: "unseen" }, text) : text,
    ),
  );
  return h("div", { class: "scroll", tabindex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, ...cells)), body));
}
