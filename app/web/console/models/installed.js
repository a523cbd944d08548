/** The models that are here: their state, size and memory, and what can be done with them. */

import { askJson, inPath } from "../shared/api.js";
import { confirmed } from "../shared/confirm.js";
import { fill, h, tell } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { ago, bytes, inBytes, memory, tokens } from "../shared/format.js";
import { iconButton } from "../shared/icons.js";
import { listModels } from "../shared/models.js";
import { table, tableRow } from "../shared/table.js";

/** @typedef {import("../shared/models.js").Model} Model */

/**
 * What models may take together and take now, in bytes.
 * @typedef {{ limit: number | null, held: Record<string, number> }} Ledger
 */

const HEADS = ["Model", "Type", "State", "Size", "Memory", "Context", "Used", "Actions"];
const MOVING = new Set(["loading", "unloading", "restarting"]);
const HELD = new Set(["loaded", "restarting"]);

/** @param {(models: Model[], limit: number | null) => void} told what is here, and what it may take in bytes */
export function makeInstalled(told) {
  const rows = h("tbody", {});
  const room = h("div", { class: "room" }, h("p", { class: "waiting" }, "Asking the server"));
  const problem = h("p", { class: "problem", role: "alert" });
  const gone = h("p", { class: "problem", role: "alert" });
  const element = h("section", { class: "card", "aria-label": "Models here" }, room, gone, problem, table(HEADS, rows));
  let known = "";
  /** States that are shown, by names. @type {Map<string, string>} */
  let shown = new Map();
  const feed = listener(
    ({ models }) => {
      const now = JSON.stringify(models.map(({ name, running }) => [name, running > 0]));
      const isOld = models.some(({ name, state }) => shown.has(name) && shown.get(name) !== state);
      if (isOld || now !== known) refresh();
      known = now;
    },
    { tell: (text) => fill(gone, text) },
  );

  async function refresh() {
    try {
      const [models, ledger] = await Promise.all([listModels(), readLedger()]);
      fill(problem);
      fill(room, ...memoryOf(ledger));
      fill(rows, ...models.map((model) => row(model, ledger, act)));
      shown = new Map(models.map((model) => [model.name, model.status]));
      told(models, ledger.limit);
      if (!models.length)
        fill(
          rows,
          h("tr", {}, h("td", { colspan: HEADS.length, class: "quiet" }, "No model yet: get one from the hub below.")),
        );
    } catch (error) {
      fill(room);
      fill(problem, /** @type {Error} */ (error).message);
    }
  }

  /**
   * Do something with a model; the feed says how it goes on meanwhile.
   * @param {string} path
   * @param {string} [method]
   */
  async function act(path, method = "POST") {
    try {
      await askJson(path, { method });
    } catch (error) {
      tell(error);
    }
    await refresh();
  }
  return {
    element,
    refresh,
    enter() {
      refresh();
      feed.start();
    },
    leave: feed.stop,
  };
}

/** @returns {Promise<Ledger>} */
async function readLedger() {
  const { loaded_models: loaded, system_status: all } = await askJson("/v1/manager/status");
  const held = Object.entries(/** @type {Record<string, any>} */ (loaded)).map(([name, one]) => [
    name,
    inBytes(Math.max(one.memory_usage_gb, one.config.estimated_memory_gb ?? 0)) ?? 0,
  ]);
  return { limit: inBytes(all.memory_limit_gb), held: Object.fromEntries(held) };
}

/** @param {Ledger} ledger */
function memoryOf({ limit, held }) {
  const used = Object.values(held).reduce((sum, one) => sum + one, 0);
  if (limit === null) return [h("p", { class: "quiet" }, `Loaded models hold ${memory(used)}.`)];
  const bar = h("div", {
    class: "bar",
    role: "img",
    "aria-label": `${memory(used)} of ${memory(limit)} are taken`,
  });
  for (const [name, taken] of Object.entries(held)) {
    const part = h("span", { title: `${name}: ${memory(taken)}` });
    part.style.width = `${(100 * taken) / limit}%`;
    bar.append(part);
  }
  return [
    h("p", { class: "quiet" }, `Loaded models take ${memory(used)} of the ${memory(limit)} that they may have.`),
    bar,
  ];
}

/**
 * @param {Model} model
 * @param {Ledger} ledger
 * @param {(path: string, method?: string) => void} act
 */
function row(model, ledger, act) {
  return tableRow(
    HEADS,
    h("th", { scope: "row", class: "name" }, model.name, model.pinned && h("span", { class: "tag" }, "pinned")),
    h("td", {}, h("span", { class: "tag" }, model.type)),
    h("td", {}, h("span", { class: `state ${model.status}` }, model.status)),
    h("td", { class: "number" }, model.size === 0 ? "< 10 MB" : bytes(model.size)),
    h("td", { class: "number" }, need(model, ledger)),
    h("td", { class: "number" }, tokens(model.context)),
    h("td", { class: "quiet" }, ago(model.usedAt)),
    h("td", { class: "acts" }, actions(model, act)),
  );
}

/**
 * @param {Model} model
 * @param {Ledger} ledger
 */
function need({ name, needs, status }, { limit, held }) {
  if (HELD.has(status)) return memory(held[name]);
  if (needs === null || limit === null) return memory(needs);
  const others = Object.values(held).reduce((sum, one) => sum + one, 0);
  const verdict = needs > limit ? "too large" : needs > limit - others ? "fits once others go" : "fits";
  return h(
    "span",
    { title: `It needs ${memory(needs)}` },
    `${memory(needs)} · `,
    h("span", { class: needs > limit && "problem" }, verdict),
  );
}

/**
 * @param {Model} model
 * @param {(path: string, method?: string) => void} act
 */
function actions({ name, status, pinned }, act) {
  const path = `/v1/models/${inPath(name)}`;
  const isHeld = HELD.has(status);
  const move = isHeld ? "unload" : "load";
  const words = isHeld ? "Unload" : "Load";
  const remove = async () => {
    const text = `${name} is unloaded, and its files are removed if they lie where models are kept.`;
    if (await confirmed(`Delete ${name}?`, text, "Delete")) act(path, "DELETE");
  };
  return h(
    "div",
    { class: "row tight" },
    h(
      "button",
      {
        type: "button",
        "aria-label": `${words} ${name}`,
        "data-keep": `move ${name}`,
        disabled: MOVING.has(status),
        onclick: () => act(`${path}/${move}`),
      },
      words,
    ),
    iconButton("pin", `${pinned ? "Unpin" : "Pin"} ${name}`, () => act(`${path}/${pinned ? "unpin" : "pin"}`), {
      "aria-pressed": String(pinned),
      "data-keep": `pin ${name}`,
    }),
    iconButton("trash", `Delete ${name}`, remove, {
      "data-keep": `delete ${name}`,
    }),
  );
}
