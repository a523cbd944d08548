/** The list of conversations. */

import { fill, h } from "../shared/dom.js";
import { ago } from "../shared/format.js";
import { icon, iconButton } from "../shared/icons.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

/**
 * @param {{ start: () => void, open: (conversation: Conversation) => void, remove: (conversation: Conversation) => void }} chat
 */
export function makeSidebar(chat) {
  const list = h("ul", {});
  const search = h("input", {
    type: "search",
    placeholder: "Search chats",
    "aria-label": "Search chats",
    oninput: draw,
  });
  const element = h(
    "aside",
    { class: "sidebar", "aria-label": "Conversations" },
    h("button", { class: "start", type: "button", onclick: chat.start }, icon("plus"), "New chat"),
    search,
    list,
    h("p", { class: "quiet small" }, "Kept in this browser only."),
  );
  /** @type {Conversation[]} */
  let all = [];
  let current = "";

  /**
   * @param {Conversation[]} conversations
   * @param {string} id of the one that is open
   */
  function show(conversations, id) {
    [all, current] = [conversations, id];
    draw();
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const found = all.filter((one) => one.leaf && matches(one, wanted));
    search.hidden = all.length < 2 && !wanted;
    fill(list, ...found.map(line));
  }

  /** @param {Conversation} one */
  function line(one) {
    const open = h(
      "button",
      {
        class: "bare open",
        type: "button",
        "aria-current": one.id === current && "true",
        onclick: () => chat.open(one),
      },
      h("span", { class: "title" }, one.title),
      h("small", {}, ago(one.updated)),
    );
    const remove = iconButton("trash", `Delete ${one.title}`, () => chat.remove(one), { class: "bare remove" });
    return h("li", {}, open, remove);
  }
  return { element, show };
}

/**
 * @param {Conversation} conversation
 * @param {string} wanted in small letters
 */
function matches(conversation, wanted) {
  const texts = [conversation.title, ...Object.values(conversation.messages).map((message) => message.text)];
  return !wanted || texts.some((text) => text.toLowerCase().includes(wanted));
}
