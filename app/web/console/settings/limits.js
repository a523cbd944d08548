/** What requests may ask for, and the API keys, whose secrets the server never tells. */

import { askJson } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { duration, inBytes, memory, number } from "../shared/format.js";
import { table, tableRow } from "../shared/table.js";

export function makeLimits() {
  const facts = h("dl", { class: "facts" });
  const keys = h("div", {});
  const element = h(
    "div",
    { class: "stack" },
    h("fieldset", { class: "card" }, h("legend", {}, "Limits"), facts),
    h("fieldset", { class: "card" }, h("legend", {}, "Keys"), keys),
  );

  async function read() {
    const [limits, status] = await Promise.all([askJson("/v1/system/limits"), askJson("/v1/manager/status")]);
    fill(
      facts,
      ...factsOf(limits, status.system_status).flatMap(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value)),
      ),
    );
    fill(
      keys,
      limits.keys.length
        ? keyTable(limits.keys)
        : h(
            "p",
            { class: "quiet" },
            "No key is configured: everybody who reaches this server may use it, and only this machine may look after it.",
          ),
    );
  }
  return { element, read };
}

/**
 * @param {any} limits
 * @param {any} status
 * @returns {[string, string][]}
 */
function factsOf(limits, status) {
  const seconds = (/** @type {number | null} */ value) => (value ? duration(value) : "no limit");
  return [
    ["Memory for models", memory(inBytes(status.memory_limit_gb))],
    ["Models at a time", limits.max_models === null ? "as many as fit" : number(limits.max_models)],
    ["Unloaded when idle for", seconds(limits.idle_timeout_s)],
    ["Models load when named", limits.auto_load ? "yes" : "no"],
    ["Waiting requests of a model", number(limits.queue_size)],
    ["Wait for a token", seconds(limits.queue_timeout_s)],
    ["Whole request", seconds(limits.request_timeout_s)],
    [
      "Answers without a length",
      limits.default_max_tokens === null ? "as the context allows" : `${number(limits.default_max_tokens)} tokens`,
    ],
    ["Body of a request", memory(limits.max_body_bytes)],
    ["Uploads", memory(limits.max_upload_bytes)],
    ["Requests of a client", limits.rate_limit ?? "no limit"],
    ["Other sites' pages", limits.cors_origins.join(", ") || "refused"],
  ];
}

/** @param {any[]} keys */
function keyTable(keys) {
  const heads = ["Name", "May operate", "Priority", "Requests a minute", "Tokens a minute", "Rows of a model"];
  const most = (/** @type {number | null} */ value) =>
    h("td", { class: "number" }, value === null ? "–" : number(value));
  const rows = keys.map((key) =>
    tableRow(
      heads,
      h(
        "th",
        { scope: "row", class: "name" },
        key.name ?? "--api-key",
        key.own && h("span", { class: "tag" }, "this one"),
      ),
      h("td", {}, key.operator ? "yes" : "no"),
      h("td", {}, key.max_priority),
      most(key.requests_per_minute),
      most(key.tokens_per_minute),
      most(key.max_rows),
    ),
  );
  return table(heads, h("tbody", {}, ...rows));
}
