/** A request as commands for a terminal and for Python. */

import { keptKey } from "../shared/key.js";

/** @typedef {import("./request.js").Request} Request */

/** Where the commands' texts end. */
const END = "EOF";

/**
 * The same request for a terminal. An argument may be 128 KiB long on Linux, and pictures are longer: the body is read.
 * Of a picture that is drawn comes its address.
 * @param {Request} request
 */
export function asCurl(request) {
  const { path, body, picture } = request;
  const lines = [`curl ${location.origin}${path}`];
  if (keptKey()) lines.push('-H "Authorization: Bearer $OPENAI_API_KEY"');
  const sent = isDrawn(request) ? { ...body, response_format: "url" } : body;
  if (!picture) {
    lines.push("-H 'Content-Type: application/json'", `-d @- <<'${END}'`);
    return command(lines, JSON.stringify(sent, null, 2));
  }
  for (const [name, value] of Object.entries(sent)) lines.push(`--form-string ${quoted(`${name}=${value}`)}`);
  lines.push("-F 'image=@-;filename=picture'");
  return command([`base64 -d <<'${END}' | ${lines[0]}`, ...lines.slice(1)], dataOf(picture));
}

/**
 * @param {string[]} lines
 * @param {string} text that the command reads
 */
function command(lines, text) {
  return `${lines.join(" \\\n  ")}\n${text}\n${END}`;
}

/** @param {string} text as one word of a shell */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {Request} request */
function isDrawn({ path }) {
  return path.startsWith("/v1/images/");
}

/** @param {import("./conversation.js").Attached} picture */
function dataOf({ url = "" }) {
  return url.slice(url.indexOf(",") + 1);
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
 * @param {Request} request
 */
export function asPython(request) {
  const key = keptKey() ? "" : ', api_key="not-needed"';
  const client = ["import openai", "", `client = openai.OpenAI(base_url="${location.origin}/v1"${key})`];
  return (
    isDrawn(request) ? ["import base64", ...client, ...drawing(request)] : [...client, ...completion(request)]
  ).join("\n");
}

/** @param {Request} request */
function completion({ body }) {
  const named = Object.entries(body).filter(([name]) => NAMED.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !NAMED.has(name)));
  const given = named.map(([name, value]) => `${name}=${python(value, 1)}`);
  if (Object.keys(extra).length) given.push(`extra_body=${python(extra, 1)}`);
  return [
    call("chat.completions.create", given),
    "message = answer.choices[0].message",
    body.tools ? "print(message.content or message.tool_calls)" : "print(message.content)",
  ];
}

/** @param {Request} request */
function drawing({ body, picture }) {
  const given = Object.entries(body).map(([name, value]) => `${name}=${python(value, 1)}`);
  if (picture) given.push(`image=("picture", base64.b64decode("${dataOf(picture)}"))`);
  return [
    call(picture ? "images.edit" : "images.generate", given),
    'with open("drawn.png", "wb") as file:',
    "    file.write(base64.b64decode(answer.data[0].b64_json))",
  ];
}

/**
 * @param {string} method of the client
 * @param {string[]} given
 */
function call(method, given) {
  return `answer = client.${method}(\n${given.map((one) => `    ${one},`).join("\n")}\n)`;
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
