/** The view of the server's log. */

import { askJson } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { clock } from "../shared/format.js";
import { polling } from "../shared/polling.js";

/** @typedef {{ number: number, at: string, level: string, logger: string, text: string }} Line */

const LEVELS = ["debug", "info", "warning", "error", "critical"];
const PAUSE_MS = 2000;
const MOST_LINES = 1000;
const WORKER = "mlx_server.worker";

/** @type {import("../main.js").View} */
export const logsView = {
  name: "logs",
  title: "Logs",
  icon: "logs",
  make(place) {
    /** @type {Line[]} */
    let lines = [];
    /** When the log began that they are of; another one begins with each start of the server. */
    let log = "";
    const problem = h("p", { class: "problem", role: "alert" });
    const words = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter", oninput: show });
    const level = h(
      "select",
      { "aria-label": "Level", onchange: show },
      ...LEVELS.map((one) => h("option", { value: one, selected: one === "info" }, one)),
    );
    const list = h("ol", { class: "log", "aria-label": "Lines", tabindex: 0 });
    place.append(
      h(
        "div",
        { class: "page" },
        h("header", {}, h("h1", {}, "Logs"), h("div", { class: "grow" }, words), level),
        problem,
        list,
      ),
    );

    function show() {
      const wanted = words.value.toLowerCase();
      const least = LEVELS.indexOf(level.value);
      const found = lines.filter(
        (line) => LEVELS.indexOf(line.level) >= least && `${line.logger} ${line.text}`.toLowerCase().includes(wanted),
      );
      const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
      fill(list, ...found.map(item));
      if (!found.length) fill(list, h("li", { class: "quiet" }, "No such line."));
      if (atEnd) list.scrollTop = list.scrollHeight;
    }

    const poll = polling(
      async () => {
        try {
          const known = lines.at(-1)?.number ?? 0;
          const { lines: more, began } = await askJson(`/v1/system/logs?after=${known}`);
          fill(problem);
          const isAnother = known > 0 && began !== log;
          log = began;
          lines = isAnother ? [] : [...lines, ...more].slice(-MOST_LINES);
          if (more.length || isAnother || !known) show();
          return isAnother;
        } catch (error) {
          fill(problem, /** @type {Error} */ (error).message);
          return false;
        }
      },
      { movingMs: 0, restingMs: PAUSE_MS },
    );
    return { enter: poll.start, leave: poll.stop };
  },
};

/** @param {Line} line */
function item(line) {
  return h(
    "li",
    { class: line.level },
    h("time", { datetime: line.at }, clock(line.at)),
    h("b", {}, line.level),
    h("span", {}, line.logger === WORKER && h("em", {}, "worker "), line.text),
  );
}
