/** Batches of this key: how far they are, with buttons that end them and save their results. */

import { ask } from "../shared/api.js";
import { fill, h, tell } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { ago, number } from "../shared/format.js";
import { iconButton } from "../shared/icons.js";
import { table, tableRow } from "../shared/table.js";

/** @typedef {import("../shared/feed.js").Batch} Batch */

const HEADS = ["Batch", "Model", "Began", "State", "Done", "Actions"];
const MAY_END = new Set(["validating", "in_progress"]);
const MOVING = new Set([...MAY_END, "finalizing", "cancelling"]);
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
  let shown = "";

  /** @param {import("../shared/feed.js").Parts} told */
  function show({ batches }) {
    if (!batches) return;
    const now = JSON.stringify(batches.map((one) => [one, began(one)]));
    if (now === shown) return;
    shown = now;
    element.hidden = !batches.length;
    fill(count, `${batches.filter((one) => MOVING.has(one.status)).length} under way`);
    fill(body, ...batches.map(row));
  }
  const feed = listener(show, { parts: ["batches"] });
  return { element, enter: feed.start, leave: feed.stop };
}

/** @param {Batch} batch */
function began(batch) {
  return ago(batch.created_at * 1000);
}

/** @param {Batch} batch */
function row(batch) {
  const { id, status, output_file_id: output, error_file_id: errors, errors: wrong, waiting_for: why } = batch;
  return tableRow(
    HEADS,
    h("td", {}, h("code", { class: "id" }, id)),
    h("td", {}, batch.model ?? "–"),
    h("td", {}, began(batch)),
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
        MAY_END.has(status) &&
          iconButton("cross", `Cancel ${id}`, () => tried(cancel(id)), { "data-keep": `cancel ${id}` }),
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

/** @param {string} id */
function cancel(id) {
  return ask(`/v1/batches/${id}/cancel`, { method: "POST" });
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
