/** Two models side by side on one prompt. */

import { write } from "../chat/answer.js";
import { makeMessage } from "../chat/message.js";
import { fill, h } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { listModels, writes } from "../shared/models.js";

export function comparePart() {
  const pickers = ["First model", "Second model"].map((label) => h("select", { "aria-label": label }));
  const prompt = h("textarea", {
    rows: 2,
    "aria-label": "Prompt for both",
    placeholder: "One prompt for both",
  });
  const go = h("button", { class: "primary" }, icon("compare"), "Compare");
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
  let ending = new AbortController();

  async function enter() {
    const models = (await listModels()).filter(writes);
    pickers.forEach((picker, at) => {
      const chosen = picker.value || models[Math.min(at, models.length - 1)]?.name;
      fill(picker, ...models.map(({ name }) => h("option", { value: name, selected: name === chosen }, name)));
    });
    element.hidden = !models.length;
  }

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    const text = prompt.value.trim();
    if (!text) return;
    ending.abort();
    ending = new AbortController();
    pickers.forEach((picker, at) => answer(picker.value, text, places[at], ending.signal));
  }
  return { element, enter };
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
    if (!signal.aborted) message.problem = /** @type {Error} */ (error).message;
  }
  shown.update();
}
