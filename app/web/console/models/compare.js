/** Two models side by side on one prompt. */

import { write } from "../chat/answer.js";
import { makeMessage } from "../chat/message.js";
import { fill, h } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { writes } from "../shared/models.js";

/** @typedef {import("../shared/models.js").Model} Model */

export function comparePart() {
  const pickers = ["First model", "Second model"].map((label) => h("select", { "aria-label": label }));
  const prompt = h("textarea", {
    rows: 2,
    "aria-label": "Prompt for both",
    placeholder: "One prompt for both",
  });
  const go = h("button", { class: "primary" });
  const places = pickers.map(() => h("div", { class: "answer" }));
  const element = h(
    "section",
    { class: "card", "aria-label": "Compare", hidden: true },
    h("header", {}, h("h2", {}, "Compare two models")),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      prompt,
      h("div", { class: "row search" }, ...pickers.map((one) => h("div", { class: "grow" }, one)), go),
    ),
    h("div", { class: "side-by-side" }, ...places),
  );
  /** Ends the answers that are being written. @type {AbortController | undefined} */
  let ending;
  /** Names of the models that may be chosen. @type {string[]} */
  let offered = [];
  showButton();

  /** @param {Model[]} models that are here; those that write may be chosen */
  function offer(models) {
    const names = models.filter(writes).map((one) => one.name);
    // A list that is open would close.
    if (String(names) === String(offered)) return;
    offered = names;
    pickers.forEach((picker, at) => {
      const chosen = names.includes(picker.value) ? picker.value : names[Math.min(at, names.length - 1)];
      fill(picker, ...names.map((name) => h("option", { value: name, selected: name === chosen }, name)));
    });
    element.hidden = !names.length;
  }

  function showButton() {
    fill(go, icon(ending ? "stop" : "compare"), ending ? "Stop" : "Compare");
  }

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    if (ending) return ending.abort();
    const text = prompt.value.trim();
    if (!text) return;
    const { signal } = (ending = new AbortController());
    showButton();
    await Promise.all(pickers.map((picker, at) => answer(picker.value, text, places[at], signal)));
    ending = undefined;
    showButton();
  }
  return { element, offer };
}

/**
 * @param {string} model
 * @param {string} prompt
 * @param {HTMLElement} place
 * @param {AbortSignal} signal
 */
async function answer(model, prompt, place, signal) {
  /** @type {import("../chat/conversation.js").Message} */
  const message = { id: "", parent: null, role: "assistant", text: "", model };
  const shown = makeMessage(message, { at: 0, of: 1, open: false }, {});
  fill(place, shown.element);
  shown.update("Thinking");
  const body = { model, messages: [{ role: "user", content: prompt }] };
  try {
    await write(body, message, signal, () => shown.update(message.text || message.reasoning ? "" : "Thinking"));
  } catch (error) {
    if (signal.aborted) message.end = "stopped";
    else message.problem = /** @type {Error} */ (error).message;
  }
  shown.update();
}
