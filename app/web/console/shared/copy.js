/** Copying to the clipboard. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * A button that copies a text and says so.
 * @param {() => string} text
 * @param {string} [label]
 */
export function copyButton(text, label = "Copy") {
  const button = h(
    "button",
    {
      class: "bare",
      type: "button",
      title: label,
      "aria-label": label,
      onclick: copy,
    },
    icon("copy"),
  );

  async function copy() {
    await navigator.clipboard.writeText(text());
    fill(button, icon("check"));
    setTimeout(() => fill(button, icon("copy")), 1500);
  }
  return button;
}
