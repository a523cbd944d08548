/** The messages of the branch that is shown, one below the other. */

import { fill, h } from "../shared/dom.js";
import { branch, siblings } from "./conversation.js";
import { makeMessage } from "./message.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

const NEAR = 80;
/** So many pixels from its end, the thread goes on being scrolled to it. */

/** @param {import("./message.js").Actions} actions */
export function makeThread(actions) {
  const list = h("div", { class: "messages" });
  const element = h("div", { class: "thread", tabindex: 0, role: "region", "aria-label": "Messages" }, list);
  /** @type {Map<string, ReturnType<typeof makeMessage>>} */
  let shown = new Map();
  /** The end of the branch that is shown. */
  let end = "";

  /**
   * Show a branch from its end, or as far as it is scrolled if it is shown already.
   * @param {Conversation} conversation
   * @param {Node} empty what stands there while nothing has been said
   */
  function show(conversation, empty) {
    const before = conversation.leaf === end && !isAtEnd() ? element.scrollTop : Infinity;
    end = conversation.leaf ?? "";
    const messages = branch(conversation);
    shown = new Map(
      messages.map((message) => {
        const open = message.id === end;
        const known = shown.get(message.id);
        if (known?.isWritten(open)) return [message.id, known];
        const all = siblings(conversation, message);
        return [message.id, makeMessage(message, { at: all.indexOf(message), of: all.length, open }, actions)];
      }),
    );
    fill(list, ...(messages.length ? [...shown.values()].map((one) => one.element) : [empty]));
    element.scrollTop = Math.min(before, element.scrollHeight);
  }

  function isAtEnd() {
    return element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
  }

  function toEnd() {
    element.scrollTop = element.scrollHeight;
  }

  /**
   * Draw a message again, if it is shown.
   * @param {string} id
   * @param {string} [waiting] what there is to say until its text comes, empty if nothing; undefined once it has ended
   */
  function update(id, waiting) {
    const follows = isAtEnd();
    shown.get(id)?.update(waiting);
    if (follows) toEnd();
  }

  /**
   * Draw what is below a message again, if it is shown.
   * @param {string} id
   */
  function mark(id) {
    shown.get(id)?.mark();
  }
  return { element, show, update, mark, isAtEnd, toEnd, focus: () => element.focus({ preventScroll: true }) };
}
