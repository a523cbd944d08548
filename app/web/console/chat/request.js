/** A conversation as a request. */

import { add, branch, lastAsked, newConversation } from "./conversation.js";

/** @typedef {import("./conversation.js").Message} Message */
/** @typedef {import("./conversation.js").Conversation} Conversation */

/**
 * A request with a body of JSON, or where it shows a picture with a form.
 * @typedef {{ path: string, body: Record<string, any>, picture?: import("./conversation.js").Attached }} Request
 */

/**
 * The chat completion that answers a message.
 * @param {Conversation} conversation
 * @param {string | null} end the message
 * @returns {Request}
 */
export function completionOf(conversation, end) {
  const system = conversation.system.trim();
  const messages = branch(conversation, end).map(messageOf);
  const body = {
    model: conversation.model,
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    ...conversation.parameters,
  };
  return { path: "/v1/chat/completions", body };
}

/**
 * The picture that is drawn of what a message says, or made of the one that it shows.
 * @param {Conversation} conversation
 * @param {Message} asked
 * @returns {Request}
 */
export function drawingOf(conversation, asked) {
  const picture = asked.files?.find((file) => file.kind === "image");
  const path = picture ? "/v1/images/edits" : "/v1/images/generations";
  return { path, body: { model: conversation.model, prompt: asked.text }, picture };
}

/**
 * The request whose answer ends the branch that is shown; where nothing has been said yet, one that says something.
 * @param {Conversation} conversation
 * @param {boolean} draws what its model does
 * @returns {Request}
 */
export function lastRequest(conversation, draws) {
  const end = lastAsked(conversation);
  if (end) return draws ? drawingOf(conversation, conversation.messages[end]) : completionOf(conversation, end);
  const example = newConversation(conversation.model, conversation);
  add(example, null, { role: "user", text: draws ? "A lighthouse at dusk, oil on canvas" : "Hello!" });
  return lastRequest(example, draws);
}

/**
 * @param {Message} message
 * @returns {Record<string, any>}
 */
function messageOf(message) {
  if (message.role === "tool")
    return {
      role: "tool",
      tool_call_id: message.callId,
      content: message.text,
    };
  if (message.role === "user") return { role: "user", content: contentOf(message) };
  const calls = message.calls?.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
  return {
    role: "assistant",
    content: message.text,
    ...(calls?.length ? { tool_calls: calls } : {}),
  };
}

/** @param {Message} message */
function contentOf(message) {
  if (!message.files?.length) return message.text;
  const parts = message.files.map((file) => {
    if (file.kind === "text") return { type: "text", text: `${file.name}:\n\n${file.text}\n\n` };
    const url = file.url ?? "";
    if (file.kind === "image") return { type: "image_url", image_url: { url } };
    return {
      type: "input_audio",
      input_audio: {
        data: url.slice(url.indexOf(",") + 1),
        format: formatOf(file.name),
      },
    };
  });
  return message.text ? [...parts, { type: "text", text: message.text }] : parts;
}

/** @param {string} name */
export function formatOf(name) {
  return name.split(".").pop()?.toLowerCase() ?? "wav";
}
