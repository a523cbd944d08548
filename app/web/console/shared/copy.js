/** Copying to the clipboard. */

import { fill, h } from "./dom.js";
import { icon, iconButton } from "./icons.js";

/**
 * A button that copies a text and says so.
 * @param {() => string} text
 * @param {string} [label]
 * @param {Record<string, any>} [more] properties
 */
export function copyButton(text, label = "Copy", more = {}) {
  const copy = async () => {
    await copied(text(), button);
    fill(button, icon("check"));
    setTimeout(() => fill(button, icon("copy")), 1500);
  };
  const button = iconButton("copy", label, copy, more);
  return button;
}

/**
 * Copy a text. Pages that come from other machines without HTTPS have no `navigator.clipboard`: what is selected is
 * copied there, in an element beside `place`.
 * @param {string} text
 * @param {HTMLElement} place
 */
async function copied(text, place) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { value: text, class: "unseen", "aria-hidden": "true" });
  place.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  place.focus();
}
