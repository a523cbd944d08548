/** Requests to the server that this page came from, with the API key where it wants one. */

import { askKey, forgetKey, keptKey } from "./key.js";

/** Raised when the server refuses; `message` is its own. */
export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Raised when no answer comes, or one breaks off. */
class Unreachable extends Error {
  constructor() {
    super("The server can't be reached.");
  }
}

/**
 * Ask the server; a key is asked for once it turns out that one is needed.
 * @param {string} path
 * @param {{ method?: string, body?: any, signal?: AbortSignal, headers?: Record<string, string> }} [how]
 *   a `body` that is no form is sent as JSON
 * @returns {Promise<Response>}
 * @throws {ServerError} for any status but 2xx; Unreachable; AbortError once `signal` says so
 */
export async function ask(path, how = {}) {
  for (;;) {
    const key = keptKey();
    const answer = await reached(fetch(path, options(how, key)));
    if (answer.ok) return answer;
    if (answer.status !== 401) throw new ServerError(answer.status, await said(answer));
    if (key) forgetKey(key);
    await askKey(key ? "The server does not know that key." : "");
  }
}

/**
 * What comes over the network, which tells of its faults by a TypeError, in each browser's own words. Throws
 * Unreachable.
 * @template T
 * @param {Promise<T>} coming
 */
async function reached(coming) {
  try {
    return await coming;
  } catch (error) {
    throw error instanceof TypeError ? new Unreachable() : error;
  }
}

/**
 * The JSON of an answer. Throws as `ask` does.
 * @param {string} path
 * @param {{ method?: string, body?: any, signal?: AbortSignal }} [how]
 * @returns {Promise<any>}
 */
export async function askJson(path, how) {
  return reached((await ask(path, how)).json());
}

/**
 * A model's name in a path: its slashes stay.
 * @param {string} name
 */
export function inPath(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

/**
 * What a server-sent event stream holds, event by event, until it ends. Throws Unreachable.
 * @param {Response} answer
 * @returns {AsyncGenerator<{ event: string, data: string }>}
 */
export async function* eventsOf(answer) {
  const body = /** @type {ReadableStream<BufferSource>} */ (answer.body);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reached(reader.read());
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        const event =
          lines
            .find((line) => line.startsWith("event:"))
            ?.slice(6)
            .trim() ?? "message";
        if (data.length) yield { event, data: data.join("\n") };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/**
 * @param {{ method?: string, body?: any, signal?: AbortSignal, headers?: Record<string, string> }} how
 * @param {string} key
 * @returns {RequestInit}
 */
function options({ method, body, signal, headers = {} }, key) {
  const isForm = body instanceof FormData;
  return {
    method: method ?? (body === undefined ? "GET" : "POST"),
    body: body === undefined || isForm ? body : JSON.stringify(body),
    headers: {
      ...headers,
      ...(body === undefined || isForm ? {} : { "Content-Type": "application/json" }),
      ...(key ? { Authorization: `Bearer ${inHeader(key)}` } : {}),
    },
    signal,
  };
}

/**
 * A text as a header holds it, whose characters are bytes: those of UTF-8, as the server compares keys.
 * @param {string} text
 */
function inHeader(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** @param {Response} answer */
async function said(answer) {
  const text = await reached(answer.text());
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text || `The server answered with status ${answer.status}.`;
  }
}
