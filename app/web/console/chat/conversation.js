/**
 * Conversations as trees: a message that was edited or answered anew has siblings, and `leaf` is the end of the branch
 * that is shown.
 *
 * @typedef {{ kind: "image" | "audio" | "text", name: string, url?: string, text?: string }} Attached
 *   a picture or sound as a data URL, or the text of a file
 * @typedef {{ id: string, name: string, arguments: string }} Call
 * @typedef {{
 *   rate: number | null, firstS: number | null, tokens: number, promptTokens: number, cachedTokens: number,
 * }} Figures tokens per second, seconds until the first one, and how many of the prompt were known
 * @typedef {{
 *   id: string, parent: string | null, role: "user" | "assistant" | "tool", text: string, reasoning?: string,
 *   calls?: Call[], callId?: string, files?: Attached[], drawn?: string[], model?: string, figures?: Figures,
 *   problem?: string, end?: string,
 * }} Message `end`: why an answer ended
 * @typedef {{
 *   id: string, title: string, model: string, system: string, parameters: Record<string, any>,
 *   messages: Record<string, Message>, leaf: string | null, updated: number,
 * }} Conversation
 */

/**
 * Messages that were added here, and may grow: of all others, what is kept is the latest.
 * @type {WeakSet<Message>}
 */
const ours = new WeakSet();

/**
 * A conversation in which nothing has been said.
 * @param {string} model
 * @param {Conversation} [like] whose system prompt and parameters it takes over
 * @returns {Conversation}
 */
export function newConversation(model, like) {
  return {
    id: newId(),
    title: "",
    model,
    system: like?.system ?? "",
    parameters: { ...like?.parameters },
    messages: {},
    leaf: null,
    updated: Date.now(),
  };
}

/**
 * Add a message to the end of a branch, which becomes the one that is shown.
 * @param {Conversation} conversation
 * @param {string | null} parent
 * @param {Omit<Message, "id" | "parent">} said
 * @returns {Message}
 */
export function add(conversation, parent, said) {
  const message = { ...said, id: newId(), parent };
  ours.add(message);
  conversation.messages[message.id] = message;
  conversation.leaf = message.id;
  conversation.updated = Date.now();
  if (!conversation.title && message.role === "user") conversation.title = titleOf(message);
  return message;
}

/**
 * The messages of the branch that ends with a message, from the first one.
 * @param {Conversation} conversation
 * @param {string | null} [end]
 */
export function branch(conversation, end = conversation.leaf) {
  const found = [];
  for (let id = end; id; id = conversation.messages[id].parent) found.unshift(conversation.messages[id]);
  return found;
}

/**
 * What the end of the branch answers, or the end itself where that has no answer yet.
 * @param {Conversation} conversation
 */
export function lastAsked({ messages, leaf }) {
  const end = leaf && messages[leaf];
  return end && end.role === "assistant" ? end.parent : leaf;
}

/**
 * The messages that stand in the same place, in the order in which they came.
 * @param {Conversation} conversation
 * @param {Message} message
 */
export function siblings(conversation, message) {
  return Object.values(conversation.messages).filter((one) => one.parent === message.parent);
}

/**
 * Show the branch that goes through a message, to its latest end.
 * @param {Conversation} conversation
 * @param {Message} message
 */
export function follow(conversation, message) {
  const children = Object.values(conversation.messages).filter((one) => one.parent === message.id);
  const last = children.at(-1);
  if (last) follow(conversation, last);
  else conversation.leaf = message.id;
}

/**
 * Take over what other tabs have said in a conversation, as it is kept; the branch that is shown goes on to its end.
 * @param {Conversation} conversation
 * @param {Conversation} kept
 */
export function join(conversation, kept) {
  const { messages, leaf } = conversation;
  for (const [id, message] of Object.entries(kept.messages)) {
    const known = (messages[id] ??= message);
    if (!ours.has(known)) Object.assign(known, message);
  }
  if (leaf) follow(conversation, messages[leaf]);
}

/** So long after they were last kept, answers are written by no other tab, in milliseconds. */
const LOST_MS = 10_000;

/**
 * Answers whose page went without a word while they came are ones that were stopped.
 * @param {Conversation} conversation as it was kept
 */
export function endLost({ messages, updated }) {
  if (Date.now() - updated < LOST_MS) return;
  for (const message of Object.values(messages)) {
    const { role, end, figures, problem, drawn } = message;
    if (role === "assistant" && !(end || figures || problem || drawn)) message.end = "stopped";
  }
}

/** Pages that come from other machines without HTTPS have no `crypto.randomUUID`. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
}

/** @param {Message} message */
function titleOf(message) {
  const words = message.text.trim().split("\n")[0];
  return words.length > 60 ? `${words.slice(0, 60)}…` : words || message.files?.[0]?.name || "New chat";
}
