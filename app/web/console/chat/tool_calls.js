/** The functions that a model asks for, and where their results are given. */

import { h } from "../shared/dom.js";

/** @typedef {import("./conversation.js").Message} Message */

/**
 * A message's calls; below them a form for their results while the conversation waits for these.
 * @param {Message} message
 * @param {boolean} open
 * @param {(message: Message, results: string[]) => void} [given]
 * @returns {HTMLElement[]}
 */
export function callsOf(message, open, given) {
  const calls = message.calls ?? [];
  const areas = calls.map((call) =>
    h("textarea", {
      rows: 2,
      class: "mono",
      "aria-label": `Result of ${call.name}`,
      placeholder: "Its result",
      "data-keep": `result ${call.id}`,
    }),
  );
  const shown = calls.map((call, at) =>
    h(
      "div",
      { class: "call" },
      h("p", {}, "calls ", h("code", {}, call.name)),
      h("pre", { tabindex: 0 }, pretty(call.arguments)),
      open && areas[at],
    ),
  );
  if (!calls.length || !open) return shown;
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    given?.(
      message,
      areas.map((area) => area.value),
    );
  };
  return [
    h(
      "form",
      { class: "stack", onsubmit: send },
      ...shown,
      h("div", { class: "row" }, h("button", { class: "primary" }, "Give results")),
    ),
  ];
}

/** @param {string} given arguments, which are JSON once they are whole */
function pretty(given) {
  try {
    return JSON.stringify(JSON.parse(given), null, 2);
  } catch {
    return given;
  }
}
