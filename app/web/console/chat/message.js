/** One message as it is shown. */

import { copyButton } from "../shared/copy.js";
import { fill, h, isComposing } from "../shared/dom.js";
import { duration, number } from "../shared/format.js";
import { iconButton } from "../shared/icons.js";
import { rendered } from "../shared/markdown.js";
import { shownFile } from "./files.js";
import { callsOf } from "./tool_calls.js";

/** @typedef {import("./conversation.js").Message} Message */

/**
 * What can be done with messages, as far as it can.
 * @typedef {{
 *   again?: (message: Message) => void, edit?: (message: Message, text: string, taken: () => void) => void,
 *   turn?: (message: Message, by: number) => void, results?: (message: Message, results: string[]) => void,
 *   speak?: (message: Message) => void, isRead?: (message: Message) => boolean, silence?: () => void,
 * }} Actions `again` answers anew, `edit` says once it has taken the words, `turn` shows another branch, `results`
 * gives those of the calls, `isRead` says whether it is being read aloud
 */

/**
 * A message; `update` draws it again while its answer comes, and `mark` only what is below it; `isWritten` while
 * something in it is: other words for it, or results of calls that are open to them.
 * @param {Message} message
 * @param {{ at: number, of: number, open: boolean }} place which of its siblings it is; open: its calls wait for results
 * @param {Actions} actions
 */
export function makeMessage(message, place, actions) {
  const body = h("div", { class: "body" });
  const below = h("div", { class: "below" });
  const who = {
    user: "You",
    assistant: message.model ?? "Assistant",
    tool: "Tool result",
  }[message.role];
  const element = h("article", {
    class: `message ${message.role}`,
    "aria-label": who,
  });
  if (message.role === "assistant") element.append(h("p", { class: "who" }, who));
  element.append(body, below);
  let editing = false;
  let ended = true;

  /** @param {string} [waiting] what there is to say before the first token; undefined once it has ended */
  function update(waiting) {
    editing = false;
    ended = waiting === undefined;
    const opened = Boolean(body.querySelector("details.reasoning[open]"));
    const calls = callsOf(message, place.open && ended, actions.results);
    fill(body, ...contents(message, opened, waiting), ...calls);
    mark();
  }

  function mark() {
    if (!editing) fill(below, figures(message), ended && buttons(message, place, actions, edit));
  }

  function edit() {
    editing = true;
    const text = h("textarea", {
      rows: 4,
      value: message.text,
      "aria-label": "Edited message",
      "data-keep": `edit ${message.id}`,
    });
    const form = h(
      "form",
      {
        class: "stack editing",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          const said = text.value.trim();
          if (said || message.files?.length) actions.edit?.(message, said, () => (editing = false));
        },
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
          if (event.key !== "Escape" || isComposing(event)) return;
          event.stopPropagation();
          leave();
        },
      },
      text,
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, "Send"),
        h("button", { type: "button", onclick: leave }, "Cancel"),
      ),
    );
    fill(body, form);
    fill(below);
    text.focus();
  }

  /** Leave the words as they were. */
  function leave() {
    update();
    /** @type {HTMLElement | null} */ (below.querySelector(`[data-keep="${toEdit(message)}"]`))?.focus();
  }

  /** @param {boolean} open */
  function isWritten(open) {
    return editing || (open && [...body.querySelectorAll("textarea")].some((area) => area.value));
  }
  update();
  return { element, update, mark, isWritten };
}

/**
 * @param {Message} message
 * @param {boolean} opened its reasoning was unfolded
 * @param {string} [waiting]
 */
function contents(message, opened, waiting) {
  const written = message.text || message.calls?.length || message.drawn?.length;
  const text = h("div", { class: "text" });
  if (message.role === "assistant") text.append(rendered(message.text));
  else text.textContent = message.text;
  return [
    message.files?.length && h("div", { class: "files" }, ...message.files.map((file) => shownFile(file))),
    message.reasoning &&
      h(
        "details",
        { class: "reasoning", open: opened },
        h("summary", {}, written ? "Reasoning" : "Reasoning …"),
        h("div", { class: "text" }, rendered(message.reasoning)),
      ),
    message.text && text,
    ...(message.drawn ?? []).map((url) => h("img", { class: "drawn", src: url, alt: "The picture that was drawn" })),
    waiting && h("p", { class: "waiting" }, waiting),
    message.problem && h("p", { class: "problem", role: "alert" }, message.problem),
  ];
}

/** @param {Message} message */
function figures({ figures: known, end }) {
  if (!known) return end === "stopped" && h("span", { class: "figures" }, "stopped");
  const parts = [
    known.rate !== null && `${number(known.rate, 1)} tokens/s`,
    known.firstS !== null && `first token ${duration(known.firstS)}`,
    `${number(known.tokens)} ${known.tokens === 1 ? "token" : "tokens"}`,
    `prompt ${number(known.promptTokens)}${known.cachedTokens ? `, ${number(known.cachedTokens)} known` : ""}`,
    end === "length" && "cut off at the longest length",
  ];
  return h("span", { class: "figures" }, parts.filter(Boolean).join(" · "));
}

/**
 * What can be done with a message. Versions of it keep the focus for one another.
 * @param {Message} message
 * @param {{ at: number, of: number }} place
 * @param {Actions} actions
 * @param {() => void} edit
 */
function buttons(message, { at, of }, actions, edit) {
  const { again, turn } = actions;
  const isAnswer = message.role === "assistant";
  const versions = of > 1 &&
    turn && [
      versionButton("left", "Earlier version", at > 0 && (() => turn(message, -1)), message),
      h("span", { class: "versions" }, `${at + 1}/${of}`),
      versionButton("right", "Later version", at < of - 1 && (() => turn(message, 1)), message),
    ];
  return h(
    "span",
    { class: "actions" },
    ...(versions || []),
    message.text && copyButton(() => message.text, "Copy message", { "data-keep": `copy ${message.id}` }),
    isAnswer && message.text && reading(message, actions),
    isAnswer &&
      again &&
      iconButton("redo", "Answer again", () => again(message), { "data-keep": `again ${message.parent}` }),
    message.role === "user" && actions.edit && iconButton("edit", "Edit", edit, { "data-keep": toEdit(message) }),
  );
}

/**
 * The button that has a message read aloud, or ends that.
 * @param {Message} message
 * @param {Actions} actions
 */
function reading(message, { speak, isRead, silence }) {
  const kept = { "data-keep": `read ${message.id}` };
  if (silence && isRead?.(message)) return iconButton("stop", "Stop reading", silence, kept);
  return speak && iconButton("speak", "Read aloud", () => speak(message), kept);
}

/**
 * A button that stays where the keyboard is also when there is no further version.
 * @param {string} picture
 * @param {string} label
 * @param {(() => void) | false} turn
 * @param {Message} message
 */
function versionButton(picture, label, turn, message) {
  const more = { "aria-disabled": turn ? null : "true", "data-keep": `${picture} ${message.parent}` };
  return iconButton(picture, label, turn || (() => {}), more);
}

/** @param {Message} message whose button for other words has this `data-keep` */
function toEdit(message) {
  return `to edit ${message.id}`;
}
