/** The conversations and what is done with them; the parts of the view only show and ask. */

import { notice, tell } from "../shared/dom.js";
import { draws } from "../shared/models.js";
import { throttled } from "../shared/throttled.js";
import { draw, hasBegun, waitingFor, write } from "./answer.js";
import { add, endLost, follow, join, newConversation, siblings } from "./conversation.js";
import { completionOf, drawingOf } from "./request.js";
import { allConversations, forget, keep, keepAtOnce, oneConversation, watch } from "./storage.js";

/** @typedef {import("./conversation.js").Attached} Attached */
/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {import("./conversation.js").Message} Message */
/** @typedef {import("./answer.js").Progress} Progress */
/** @typedef {import("../shared/models.js").Model} Model */
/** @typedef {{ conversation: Conversation, message: Message, ending: AbortController, progress?: Progress }} Running */

const FRAME_MS = 60;
/** How often an answer is drawn while it comes. */
const KEEP_MS = 1000;
/** How often it is kept. */

/**
 * What shows the conversations: `all` when another one is open or its branch changes, `list` when only others do, `one`
 * when a message grows. `waiting` says what there is to say before the first token; it is undefined once the answer has
 * ended.
 * @typedef {{ all: () => void, list: () => void, one: (message: Message, waiting?: string) => void }} Screen
 */

export class Chat {
  /** @param {Screen} screen */
  constructor(screen) {
    this.screen = screen;
    /** @type {Conversation[]} */
    this.conversations = [];
    /** @type {Model[]} */
    this.models = [];
    this.current = newConversation("");
    /**
     * Answers that are being written, by the ids of their conversations.
     * @type {Map<string, Running>}
     */
    this.running = new Map();
    watch((id) => this.read(id).catch(tell));
    addEventListener("pagehide", () => this.leave());
  }

  /** The model of the conversation that is open. */
  get model() {
    return this.models.find((one) => one.name === this.current.model) ?? this.models[0];
  }

  /** Read what this browser has kept, the first time. */
  async restore() {
    if (this.conversations.length) return;
    try {
      this.conversations = await allConversations();
    } catch {
      notice("This browser keeps no chats: they are gone with the page.");
    }
    for (const one of this.conversations) endLost(one);
    if (this.conversations[0] && !this.current.leaf) this.current = this.conversations[0];
    this.screen.all();
  }

  /**
   * Read what another tab has kept or deleted.
   * @param {string} id
   */
  async read(id) {
    const kept = await oneConversation(id);
    const known = this.conversations.find((one) => one.id === id);
    if (kept && known) {
      const { messages, leaf, ...rest } = kept;
      Object.assign(known, rest);
      join(known, kept);
    } else if (kept) this.conversations.unshift(kept);
    else if (known) return this.drop(known);
    if (known === this.current) this.screen.all();
    else this.screen.list();
  }

  /** @param {Model[]} models those that write or draw */
  serve(models) {
    this.models = models;
    if (!models.some((one) => one.name === this.current.model)) this.current.model = models[0]?.name ?? "";
    this.screen.all();
  }

  start() {
    this.current = newConversation(this.current.model, this.current);
    this.screen.all();
  }

  /** @param {Conversation} conversation */
  open(conversation) {
    this.current = conversation;
    this.serve(this.models);
  }

  /** @param {Conversation} conversation */
  async remove(conversation) {
    this.drop(conversation);
    await forget(conversation.id);
  }

  /** @param {Conversation} conversation that is kept no more */
  drop(conversation) {
    this.stop(conversation);
    this.conversations = this.conversations.filter((one) => one !== conversation);
    if (this.current === conversation) this.start();
    this.screen.all();
  }

  /** What was set of the conversation that is open. */
  changed() {
    this.keep(this.current);
  }

  /**
   * @param {string} text
   * @param {Attached[]} files
   */
  send(text, files) {
    const { current } = this;
    if (!this.conversations.includes(current)) this.conversations.unshift(current);
    const asked = add(current, current.leaf, {
      role: "user",
      text,
      ...(files.length ? { files } : {}),
    });
    return this.answer(current, asked);
  }

  /**
   * Ask again with other words, on a branch of their own.
   * @param {Message} message
   * @param {string} text
   */
  edit(message, text) {
    const asked = add(this.current, message.parent, { role: "user", text, files: message.files });
    return this.answer(this.current, asked);
  }

  /** @param {Message} message an answer, beside which another one is written */
  again(message) {
    return this.answer(this.current, this.current.messages[message.parent ?? ""]);
  }

  /**
   * @param {Message} message whose calls were made
   * @param {string[]} results
   */
  results(message, results) {
    let end = message;
    (message.calls ?? []).forEach((call, at) => {
      end = add(this.current, end.id, {
        role: "tool",
        callId: call.id,
        text: results[at],
      });
    });
    return this.answer(this.current, end);
  }

  /**
   * @param {Message} message
   * @param {number} by how many versions forward
   */
  turn(message, by) {
    const all = siblings(this.current, message);
    follow(this.current, all[all.indexOf(message) + by]);
    this.screen.all();
    this.changed();
  }

  stop(conversation = this.current) {
    this.running.get(conversation.id)?.ending.abort();
  }

  /** The page goes: answers end with what has come of them. */
  leave() {
    for (const { conversation, message, ending } of this.running.values()) {
      message.end = "stopped";
      ending.abort();
      keepAtOnce(conversation);
    }
  }

  /**
   * Have an answer written below a message.
   * @param {Conversation} conversation
   * @param {Message} asked
   */
  async answer(conversation, asked) {
    this.stop(conversation);
    const { model } = this;
    const ending = new AbortController();
    const drawing = model && draws(model);
    const request = drawing ? drawingOf(conversation, asked) : completionOf(conversation, asked.id);
    const message = add(conversation, asked.id, { role: "assistant", text: "", model: model?.name });
    /** @type {Running} */
    const running = { conversation, message, ending };
    this.running.set(conversation.id, running);
    this.screen.all();
    this.keep(conversation);
    const drawn = throttled(() => this.show(running), FRAME_MS);
    const kept = throttled(() => this.keep(conversation, true), KEEP_MS);
    const changed = (/** @type {Progress | undefined} */ progress) => {
      running.progress = progress ?? running.progress;
      drawn.call(undefined);
      if (hasBegun(message)) kept.call(undefined);
    };
    changed(undefined);
    try {
      if (drawing) await draw(request, message, ending.signal);
      else await write(request.body, message, ending.signal, changed);
    } catch (error) {
      if (ending.signal.aborted) message.end = "stopped";
      else message.problem = /** @type {Error} */ (error).message;
    }
    drawn.cancel();
    kept.cancel();
    if (this.running.get(conversation.id) === running) this.running.delete(conversation.id);
    if (conversation === this.current) this.screen.all();
    if (this.conversations.includes(conversation)) await this.keep(conversation);
  }

  /** @param {Running} running */
  show({ message, progress }) {
    this.screen.one(message, hasBegun(message) ? "" : waitingFor(progress));
  }

  /**
   * @param {Conversation} conversation
   * @param {boolean} [grows] its answer: other tabs are told at its end, and whether it could be kept too
   */
  async keep(conversation, grows = false) {
    conversation.updated = Date.now();
    if (!conversation.leaf) return;
    try {
      if (!(await keep(conversation, !grows))) this.drop(conversation);
    } catch (error) {
      if (!grows) notice(`This chat could not be kept: ${/** @type {Error} */ (error).message}`);
    }
  }
}
