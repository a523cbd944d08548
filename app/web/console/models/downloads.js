/** Downloads from the hub: how far they are, and pausing and going on. */

import { askJson } from "../shared/api.js";
import { fill, h, tell } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { bytes, duration } from "../shared/format.js";

/** @typedef {import("../shared/feed.js").Download} Download */

const MOVING = new Set(["waiting", "downloading"]);
const WORDS = { cancelled: "paused", completed: "complete" };

/** @param {() => void} arrived called when a model has come */
export function makeDownloads(arrived) {
  const list = h("ul", { class: "downloads" });
  const element = h(
    "section",
    { class: "card", "aria-label": "Downloads", hidden: true },
    h("header", {}, h("h2", {}, "Downloads")),
    list,
  );
  /** @type {Set<string>} those that were seen on their way, which are still shown once they are complete */
  const followed = new Set();
  /** @type {Set<string>} */
  let complete = new Set();
  let told = "";

  /** @param {import("../shared/feed.js").Parts} parts */
  function show({ downloads }) {
    const all = JSON.stringify(downloads);
    if (!downloads || all === told) return;
    told = all;
    downloads.filter((one) => MOVING.has(one.status)).forEach((one) => followed.add(one.download_id));
    const shown = downloads.filter((one) => one.status !== "completed" || followed.has(one.download_id));
    element.hidden = !shown.length;
    fill(list, ...shown.map(line));
    const now = new Set(shown.filter((one) => one.status === "completed").map((one) => one.download_id));
    if ([...now].some((id) => !complete.has(id))) arrived();
    complete = now;
  }
  const feed = listener(show, { parts: ["downloads"] });
  return { element, start, enter: feed.start, leave: feed.stop };
}

/** @param {string} id of the model on the hub, whose download begins or goes on */
function start(id) {
  return tried(askJson("/api/models/download", { body: { model_id: id } }));
}

/** @param {string} id of the download */
function pause(id) {
  return tried(askJson(`/api/models/downloads/${id}`, { method: "DELETE" }));
}

/** @param {Promise<any>} asked */
async function tried(asked) {
  try {
    await asked;
  } catch (error) {
    tell(error);
  }
}

/** @param {Download} one */
function line(one) {
  const { status, model_id: model } = one;
  const word = WORDS[/** @type {keyof typeof WORDS} */ (status)] ?? status;
  return h(
    "li",
    {},
    h(
      "div",
      { class: "row" },
      h("strong", { class: "grow" }, model),
      h("span", { class: `state ${status}` }, word),
      MOVING.has(status) &&
        h(
          "button",
          {
            type: "button",
            "data-keep": model,
            "aria-label": `Pause ${model}`,
            onclick: () => pause(one.download_id),
          },
          "Pause",
        ),
      !MOVING.has(status) &&
        status !== "completed" &&
        h(
          "button",
          {
            type: "button",
            "data-keep": model,
            "aria-label": `Resume ${model}`,
            onclick: () => start(model),
          },
          "Resume",
        ),
    ),
    h("progress", {
      max: 100,
      value: one.progress_percent,
      "aria-label": `Progress of ${model}`,
    }),
    h("small", {}, figures(one)),
    one.error && h("p", { class: "problem" }, one.error),
  );
}

/** @param {Download} one */
function figures({
  progress_percent: percent,
  done_bytes: done,
  total_bytes: total,
  bytes_per_second: speed,
  eta_seconds: eta,
}) {
  const parts = [
    `${percent} %`,
    `${bytes(done)} of ${bytes(total)}`,
    speed && `${bytes(speed)}/s`,
    eta !== null && `${duration(eta)} left`,
  ];
  return parts.filter(Boolean).join(" · ");
}
