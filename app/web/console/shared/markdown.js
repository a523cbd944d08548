/**
 * What a model wrote, as elements: Markdown by marked, code coloured by highlight.js, of which DOMPurify
 * leaves only what does no harm.
 */

import highlighter from "../libraries/highlight.min.js";
import DOMPurify from "../libraries/purify.es.mjs";
import { marked } from "../libraries/marked.esm.js";
import { copyButton } from "./copy.js";
import { h } from "./dom.js";

/** Longer code is shown as it is: it is coloured anew with every piece that comes. */
const MOST_COLOURED = 20_000;

const KEPT = {
  FORBID_TAGS: ["style", "form", "button", "input", "select", "textarea", "dialog", "audio", "video", "svg", "math"],
  FORBID_ATTR: ["style", "id", "name"],
  RETURN_DOM_FRAGMENT: true,
};

/** Boxes of task lists are signs: nobody can tick them, and a field has no place in an answer. */
marked.use({ renderer: { checkbox: (/** @type {{ checked: boolean }} */ { checked }) => (checked ? "☑ " : "☐ ") } });

/**
 * Markdown as a fragment of a document that runs nothing and loads nothing.
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function rendered(text) {
  const fragment = harmless(/** @type {string} */ (marked.parse(text, { gfm: true, breaks: true, async: false })));
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const picture of fragment.querySelectorAll("img")) {
    if (!picture.src.startsWith("data:")) picture.replaceWith(`[${picture.alt || "picture"}: ${picture.src}]`);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = h("div", { class: "scroll" });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const block of fragment.querySelectorAll("pre")) framed(block);
  return fragment;
}

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
function harmless(html) {
  return /** @type {any} */ (DOMPurify).sanitize(html, KEPT);
}

/** @param {HTMLElement} block a block of code, which gets its language and a button to copy it */
function framed(block) {
  const code = block.textContent ?? "";
  const written = block.querySelector("code");
  const language = written?.className.replace("language-", "") ?? "";
  if (written && code.length <= MOST_COLOURED && highlighter.getLanguage(language)) {
    written.replaceChildren(harmless(highlighter.highlight(code, { language, ignoreIllegals: true }).value));
  }
  const frame = h(
    "div",
    { class: "code" },
    h(
      "div",
      { class: "code-head" },
      language || "text",
      copyButton(() => code),
    ),
  );
  block.tabIndex = 0;
  block.replaceWith(frame);
  frame.append(block);
}
