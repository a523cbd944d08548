/** Requests that run and wait, each with a button that ends it. */

import { ask, inPath } from "../shared/api.js";
import { fill, h, tell } from "../shared/dom.js";
import { duration, number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { table, tableRow } from "../shared/table.js";

/** @typedef {import("../shared/feed.js").Request} Request */

const HEADS = ["Request", "Key", "Model", "State", "Age", "Prompt", "Tokens", "Tokens/s", "Actions"];

export function makeRequests() {
  /** Rows that are shown: they are changed and not made anew, so that a button keeps the focus. @type {Map<string, Row>} */
  const shown = new Map();
  const none = h("tr", {}, h("td", { colspan: HEADS.length, class: "quiet" }, "Nobody asks for anything."));
  const body = h("tbody", {}, none);
  const count = h("p", { class: "quiet", role: "status" });
  const rest = h("p", { class: "quiet" });
  const element = h(
    "section",
    { class: "card", "aria-label": "Requests" },
    h("header", {}, h("h2", {}, "Requests"), count),
    table(HEADS, body),
    rest,
  );

  /** @param {import("../shared/feed.js").State} state */
  function show({ requests, more_requests: more, waiting_requests: waiting }) {
    const all = requests.length + more;
    fill(count, `${number(all - waiting)} running, ${number(waiting)} waiting`);
    fill(rest, more > 0 && `The first ${number(requests.length)} of ${number(all)} are shown.`);
    if (all) none.remove();
    else body.append(none);
    /** @type {Map<string, number>} */
    const seen = new Map();
    const keys = requests.map((request) => {
      const nth = seen.get(request.id ?? "") ?? 0;
      seen.set(request.id ?? "", nth + 1);
      return `${nth} ${request.id}`;
    });
    for (const [key, row] of shown) {
      if (keys.includes(key)) continue;
      row.element.remove();
      shown.delete(key);
    }
    requests.forEach((request, at) => {
      const row = shown.get(keys[at]) ?? makeRow(request);
      shown.set(keys[at], row);
      row.show(request);
      if (body.children[at] !== row.element) body.insertBefore(row.element, body.children[at] ?? null);
    });
  }
  return { element, show };
}

/** @typedef {{ element: HTMLElement, show: (request: Request) => void }} Row */

/**
 * @param {Request} made
 * @returns {Row}
 */
function makeRow(made) {
  const [state, age, prompt, tokens, speed] = ["", "number", "number", "number", "number"].map((name) =>
    h("td", { class: name }),
  );
  const cancel = h(
    "button",
    { class: "bare danger", title: "End this request", "aria-label": `Cancel ${made.id}`, onclick: end },
    icon("cross"),
  );
  const element = tableRow(
    HEADS,
    h("td", {}, h("code", { class: "id" }, made.id ?? "–")),
    h("td", {}, made.key ?? "–"),
    h("td", {}, made.model),
    ...[state, age, prompt, tokens, speed],
    h("td", { class: "number acts" }, made.id !== null && cancel),
  );

  async function end() {
    cancel.disabled = true;
    try {
      await ask(`/v1/requests/${inPath(made.id ?? "")}/cancel`, { method: "POST" });
    } catch (error) {
      cancel.disabled = false;
      tell(error);
    }
  }

  /** @param {Request} request */
  function show(request) {
    fill(state, place(request));
    fill(age, duration(request.age_s));
    fill(prompt, read(request));
    fill(tokens, number(request.tokens));
    fill(speed, request.tokens_per_s === null ? "–" : number(request.tokens_per_s, 1));
  }
  return { element, show };
}

/** @param {Request} request */
function place({ state, position, eta_s: eta }) {
  if (position === null) return state;
  return eta === null ? `${position}. in the queue` : `${position}. in the queue, in ${duration(eta)}`;
}

/**
 * How much of the prompt, or of another work, is done.
 * @param {Request} request
 */
function read({ state, job, prompt_tokens: all, processed_tokens: done }) {
  if (job) return `${number(job.done)}/${number(job.total)} ${job.unit}`;
  if (all === null) return "–";
  return state === "prefill" && done !== null ? `${number(done)}/${number(all)}` : number(all);
}
