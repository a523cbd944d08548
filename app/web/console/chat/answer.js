/** Has an answer written or drawn, and fills a message with it as it comes. */

import { ask, askJson, eventsOf, ServerError } from "../shared/api.js";
import { duration } from "../shared/format.js";

/** @typedef {import("./conversation.js").Message} Message */
/** @typedef {import("./request.js").Request} Request */

/**
 * Where the prompt is before the first token.
 * @typedef {{ state: "queued" | "prefill", queue_position: number | null, prompt_tokens: number | null,
 *   processed_tokens: number | null, eta_s?: number | null }} Progress
 */

/** Tokens that come within so short a time came together, and tell no pace. */
const TOGETHER_MS = 20;

/**
 * Stream an answer into a message. Throws ServerError, or what `fetch` throws.
 * @param {Record<string, any>} body of the chat completion
 * @param {Message} message
 * @param {AbortSignal} signal
 * @param {(progress?: Progress) => void} changed
 */
export async function write(body, message, signal, changed) {
  const began = performance.now();
  let first = 0;
  const options = {
    stream: true,
    stream_options: { include_usage: true, include_progress: true },
  };
  const answer = await ask("/v1/chat/completions", {
    body: { ...body, ...options },
    signal,
  });
  for await (const { data } of eventsOf(answer)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(500, chunk.error.message);
    const choice = chunk.choices[0];
    if (choice && add(message, choice.delta)) first ||= performance.now();
    if (choice?.finish_reason) message.end = choice.finish_reason;
    if (chunk.usage) message.figures = figuresOf(chunk.usage, began, first, performance.now());
    changed(chunk.progress);
  }
}

/**
 * Add what a chunk says; true if it says anything.
 * @param {Message} message
 * @param {any} delta
 */
function add(message, delta) {
  if (delta.content) message.text += delta.content;
  if (delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + delta.reasoning_content;
  for (const { index, id, function: called } of delta.tool_calls ?? []) {
    message.calls ??= [];
    const call = (message.calls[index] ??= { id: "", name: "", arguments: "" });
    call.id ||= id ?? "";
    call.name += called?.name ?? "";
    call.arguments += called?.arguments ?? "";
  }
  return Boolean(delta.content || delta.reasoning_content || delta.tool_calls?.length);
}

/**
 * @param {any} usage
 * @param {number} began in milliseconds, as the others
 * @param {number} first 0 where no token came
 * @param {number} ended
 */
function figuresOf(usage, began, first, ended) {
  const tokens = usage.completion_tokens;
  return {
    rate: first && tokens > 1 && ended - first > TOGETHER_MS ? ((tokens - 1) * 1000) / (ended - first) : null,
    firstS: first ? (first - began) / 1000 : null,
    tokens,
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
  };
}

/**
 * Whether anything of an answer has come.
 * @param {Message} message
 */
export function hasBegun({ text, reasoning, calls }) {
  return Boolean(text || reasoning || calls);
}

/**
 * What there is to say before the first token.
 * @param {Progress} [progress]
 */
export function waitingFor(progress) {
  if (progress?.state === "queued") {
    const place = progress.queue_position ? `, number ${progress.queue_position} in line` : "";
    return `Waiting${place}${progress.eta_s ? `, about ${duration(progress.eta_s)}` : ""}`;
  }
  if (progress?.prompt_tokens)
    return `Reading the prompt, ${progress.processed_tokens ?? 0} of ${progress.prompt_tokens} tokens`;
  return "Thinking";
}

/**
 * Have a picture drawn, and shown by a message. Throws ServerError.
 * @param {Request} request
 * @param {Message} message
 * @param {AbortSignal} signal
 */
export async function draw({ path, body, picture }, message, signal) {
  const wanted = { ...body, response_format: "b64_json" };
  const { data } = await askJson(path, { body: picture ? formOf(wanted, picture) : wanted, signal });
  message.drawn = data.map((/** @type {any} */ one) => `data:image/png;base64,${one.b64_json}`);
}

/**
 * @param {Record<string, string>} fields
 * @param {import("./conversation.js").Attached} picture
 */
function formOf(fields, picture) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const [head, data] = (picture.url ?? "").split(",");
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  form.append("image", new Blob([bytes], { type: head.slice(5).split(";")[0] }), picture.name);
  return form;
}
