/** The API key: asked for once, and kept until the browser's tab is closed. */

import { fill, h } from "./dom.js";

const PLACE = "api-key";

/** What no header may hold. */
const CONTROL = /\p{Cc}/gu;

/** @type {Promise<void> | undefined} */
let asking;

/** The key that requests are sent with; empty where none was needed so far. */
export function keptKey() {
  return sessionStorage.getItem(PLACE) ?? "";
}

/**
 * Forget a key, unless another one has taken its place.
 * @param {string} [key]
 */
export function forgetKey(key = keptKey()) {
  if (keptKey() === key) sessionStorage.removeItem(PLACE);
}

/**
 * Returns once there is a key; all who need one wait for the same answer.
 * @param {string} problem what was wrong with the last one
 */
export function askKey(problem) {
  if (keptKey()) return Promise.resolve();
  asking ??= asked(problem).finally(() => (asking = undefined));
  return asking;
}

/**
 * @param {string} problem
 * @returns {Promise<void>}
 */
function asked(problem) {
  return new Promise((resolve) => {
    let given = false;
    const input = h("input", {
      type: "password",
      autocomplete: "off",
      required: true,
      "aria-label": "API key",
    });
    const dialog = h("dialog", {
      class: "key",
      "aria-labelledby": "key-title",
      closedby: "none",
    });
    const form = h(
      "form",
      {
        method: "dialog",
        onsubmit: () => {
          sessionStorage.setItem(PLACE, input.value.replace(CONTROL, "").trim());
          given = true;
          resolve();
        },
      },
      h("h2", { id: "key-title" }, "This server wants an API key"),
      h("p", { class: "quiet" }, problem || "It is kept until this tab is closed, and sent to this server only."),
      input,
      h("button", { class: "primary" }, "Go on"),
    );
    fill(dialog, form);
    // Not every browser knows `closedby`, nor lets a page prevent each `cancel`.
    dialog.addEventListener("close", () => (given ? dialog.remove() : dialog.showModal()));
    document.body.append(dialog);
    dialog.showModal();
  });
}
