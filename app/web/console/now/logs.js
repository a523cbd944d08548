/** The view of the server's log. */

import { fill, h } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { clock } from "../shared/format.js";

/** @typedef {import("../shared/feed.js").Line} Line */

const LEVELS = ["debug", "info", "warning", "error", "critical"];
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

    /** @param {import("../shared/feed.js").Parts} told */
    function add({ logs }) {
      const more = logs?.lines ?? [];
      lines = [...lines, ...more].slice(-MOST_LINES);
      if (more.length || !lines.length) show();
    }

    /** Each stream has all lines anew, perhaps of another log: one begins with each start of the server. */
    function begin() {
      lines = [];
    }
    const feed = listener(add, { tell: (text) => fill(problem, text), begin, parts: ["logs"] });
    return { enter: feed.start, leave: feed.stop };
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
