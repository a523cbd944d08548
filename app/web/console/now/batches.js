/** Batches of this key: how far they are, with buttons that end them and save their results. */

import { ask, askJson } from "../shared/api.js";
import { fill, h, tell } from "../shared/dom.js";
import { ago, number } from "../shared/format.js";
import { iconButton } from "../shared/icons.js";
import { polling } from "../shared/polling.js";
import { table, tableRow } from "../shared/table.js";

/**
 * As `GET /v1/batches` has them.
 * @typedef {{ id: string, model: string | null, endpoint: string, status: string, created_at: number,
 *   output_file_id: string | null, error_file_id: string | null, errors: { data: { message: string }[] } | null,
 *   request_counts: { total: number, completed: number, failed: number },
 *   waiting_for: "hours" | "model" | "turn" | null }} Batch
 */

const HEADS = ["Batch", "Model", "Began", "State", "Done", "Actions"];
const MAY_END = new Set(["validating", "in_progress"]);
const MOVING = new Set([...MAY_END, "finalizing", "cancelling"]);
const MOST_SHOWN = 20;
const WAITS = { hours: "waits for its hours", model: "waits for its model", turn: "waits for its turn" };

export function makeBatches() {
  const body = h("tbody", {});
  const count = h("p", { class: "quiet", role: "status" });
  const element = h(
    "section",
    { class: "card", "aria-label": "Batches", hidden: true },
    h("header", {}, h("h2", {}, "Batches"), count),
    table(HEADS, body),
  );
  const poll = polling(refresh, { movingMs: 1000, restingMs: 10000 });

  async function refresh() {
    const { data } = /** @type {{ data: Batch[] }} */ (await askJson(`/v1/batches?limit=${MOST_SHOWN}`));
    const moving = data.filter((one) => MOVING.has(one.status)).length;
    element.hidden = !data.length;
    fill(count, `${moving} under way`);
    fill(body, ...data.map((one) => row(one, cancel)));
    return moving > 0;
  }

  /** @param {string} id */
  async function cancel(id) {
    await tried(ask(`/v1/batches/${id}/cancel`, { method: "POST" }));
    await poll.now();
  }
  return { element, enter: poll.start, leave: poll.stop };
}

/**
 * @param {Batch} batch
 * @param {(id: string) => void} cancel
 */
function row(batch, cancel) {
  const { id, status, output_file_id: output, error_file_id: errors, errors: wrong, waiting_for: why } = batch;
  return tableRow(
    HEADS,
    h("td", {}, h("code", { class: "id" }, id)),
    h("td", {}, batch.model ?? "–"),
    h("td", {}, ago(batch.created_at * 1000)),
    h(
      "td",
      { title: wrong?.data[0]?.message },
      h("span", { class: `state ${status}` }, why ? WAITS[why] : status.replace("_", " ")),
    ),
    h("td", {}, ...progress(batch)),
    h(
      "td",
      { class: "acts" },
      h(
        "div",
        { class: "row tight" },
        output && saveButton("download", `Save the results of ${id}`, output, `${id}_output.jsonl`),
        errors && saveButton("logs", `Save the errors of ${id}`, errors, `${id}_errors.jsonl`),
        MAY_END.has(status) && iconButton("cross", `Cancel ${id}`, () => cancel(id), { "data-keep": `cancel ${id}` }),
      ),
    ),
  );
}

/** @param {Batch} batch */
function progress({ id, request_counts: { total, completed, failed } }) {
  const done = completed + failed;
  const text = `${number(done)} of ${number(total)}${failed ? `, ${number(failed)} failed` : ""}`;
  return [h("progress", { max: total || 1, value: done, "aria-label": `Progress of ${id}` }), h("div", {}, text)];
}

/**
 * @param {string} picture
 * @param {string} label
 * @param {string} file
 * @param {string} name
 */
function saveButton(picture, label, file, name) {
  return iconButton(picture, label, () => tried(save(file, name)), { "data-keep": label });
}

/**
 * Have the browser save a file of the server's, which a link alone would ask for without the key.
 * @param {string} file
 * @param {string} name
 */
async function save(file, name) {
  const answer = await ask(`/v1/files/${file}/content`);
  const address = URL.createObjectURL(await answer.blob());
  h("a", { href: address, download: name }).click();
  URL.revokeObjectURL(address);
}

/** @param {Promise<any>} asked */
async function tried(asked) {
  try {
    await asked;
  } catch (error) {
    tell(error);
  }
}
