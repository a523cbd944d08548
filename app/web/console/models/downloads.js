/** Downloads from the hub: how far they are, and pausing and going on. */

import { askJson } from "../shared/api.js";
import { fill, h, tell } from "../shared/dom.js";
import { bytes, duration } from "../shared/format.js";
import { polling } from "../shared/polling.js";

/**
 * As `GET /api/models/downloads` has them.
 * @typedef {{ download_id: string, model_id: string, status: string, progress_percent: number, done_bytes: number,
 *   total_bytes: number, bytes_per_second: number | null, eta_seconds: number | null, error: string | null }} Download
 */

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
  const poll = polling(refresh, { movingMs: 500, restingMs: 10000 });
  /** @type {Set<string>} those that were seen on their way, which are still shown once they are complete */
  const followed = new Set();
  /** @type {Set<string>} */
  let complete = new Set();

  async function refresh() {
    const { downloads } = /** @type {{ downloads: Download[] }} */ (await askJson("/api/models/downloads"));
    downloads.filter((one) => MOVING.has(one.status)).forEach((one) => followed.add(one.download_id));
    const shown = downloads.filter((one) => one.status !== "completed" || followed.has(one.download_id));
    element.hidden = !shown.length;
    fill(list, ...shown.map((one) => line(one, start, pause)));
    const now = new Set(shown.filter((one) => one.status === "completed").map((one) => one.download_id));
    if ([...now].some((id) => !complete.has(id))) arrived();
    complete = now;
    return downloads.some((one) => MOVING.has(one.status));
  }

  /** @param {string} id of the model on the hub, whose download begins or goes on */
  async function start(id) {
    await tried(askJson("/api/models/download", { body: { model_id: id } }));
  }

  /** @param {string} id of the download */
  async function pause(id) {
    await tried(askJson(`/api/models/downloads/${id}`, { method: "DELETE" }));
  }

  /** @param {Promise<any>} asked */
  async function tried(asked) {
    try {
      await asked;
    } catch (error) {
      tell(error);
    }
    await poll.now();
  }
  return { element, start, enter: poll.start, leave: poll.stop };
}

/**
 * @param {Download} one
 * @param {(id: string) => void} start
 * @param {(id: string) => void} pause
 */
function line(one, start, pause) {
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
