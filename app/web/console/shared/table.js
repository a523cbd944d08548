/** Tables. */

import { h } from "./dom.js";

/** Heads of columns of numbers, which stand at the right. */
const NUMBERS = new Set([
  "Context",
  "Downloads",
  "Memory",
  "Requests a minute",
  "Rows of a model",
  "Size",
  "Tokens a minute",
]);
const UNSEEN = "Actions";

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
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...cells)), body));
}
