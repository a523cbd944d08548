/** A conversation as the body of a request, and as commands for a terminal and for Python. */

import { keptKey } from "../shared/key.js";
import { branch } from "./conversation.js";

/** @typedef {import("./conversation.js").Message} Message */
/** @typedef {import("./conversation.js").Conversation} Conversation */

/**
 * The body of the chat completion that answers a message.
 * @param {Conversation} conversation
 * @param {string | null} end the message
 * @returns {Record<string, any>}
 */
export function bodyOf(conversation, end) {
  const system = conversation.system.trim();
  const messages = branch(conversation, end).map(messageOf);
  return {
    model: conversation.model,
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    ...conversation.parameters,
  };
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

/**
 * The same request for a terminal. An argument may be 128 KiB long on Linux, and pictures are longer: the body is read.
 * @param {Record<string, any>} body
 */
export function asCurl(body) {
  const lines = [`curl ${location.origin}/v1/chat/completions`, "  -H 'Content-Type: application/json'"];
  if (keptKey()) lines.push('  -H "Authorization: Bearer $OPENAI_API_KEY"');
  lines.push("  -d @- <<'EOF'");
  return `${lines.join(" \\\n")}\n${JSON.stringify(body, null, 2)}\nEOF`;
}

/** What OpenAI's Python library takes as arguments; the rest goes into `extra_body`. */
const NAMED = new Set([
  "model",
  "messages",
  "temperature",
  "top_p",
  "max_tokens",
  "stop",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "reasoning_effort",
  "response_format",
  "tools",
]);

/**
 * The same request with OpenAI's Python library.
 * @param {Record<string, any>} body
 */
export function asPython(body) {
  const named = Object.entries(body).filter(([name]) => NAMED.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !NAMED.has(name)));
  const lines = named.map(([name, value]) => `    ${name}=${python(value, 1)},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${python(extra, 1)},`);
  const key = keptKey() ? "" : ', api_key="not-needed"';
  return [
    "import openai",
    "",
    `client = openai.OpenAI(base_url="${location.origin}/v1"${key})`,
    `answer = client.chat.completions.create(\n${lines.join("\n")}\n)`,
    "print(answer.choices[0].message.content)",
  ].join("\n");
}

/**
 * JSON in Python's words.
 * @param {any} value
 * @param {number} depth of indentation
 * @returns {string}
 */
function python(value, depth) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [inner, outer] = ["    ".repeat(depth + 1), "    ".repeat(depth)];
  const parts = Array.isArray(value)
    ? value.map((one) => python(one, depth + 1))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, depth + 1)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length
    ? `${open}\n${parts.map((part) => `${inner}${part},`).join("\n")}\n${outer}${close}`
    : open + close;
}
