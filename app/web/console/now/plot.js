/** Lines of the last minutes. */

import { fill, h, svg } from "../shared/dom.js";

const [WIDTH, HEIGHT, EDGE] = [300, 72, 3];

/** Points that are drawn, one for each event: the plot is so wide at first and grows to so many. */
const [FEW, MOST] = [60, 300];

/**
 * A plot that grows by a point with each state.
 * @param {string} title
 * @param {string[]} names what its lines are called; a single one needs no name
 * @param {(value: number) => string} text
 */
export function makePlot(title, names, text) {
  /** @type {(number | null)[][]} */
  const lines = names.map(() => []);
  const caption = h("figcaption", {});
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const element = h("figure", { class: "plot" }, caption, drawing);
  show();

  /** @param {(number | null)[]} values one for each line; null where there is none */
  function add(values) {
    lines.forEach((line, at) => {
      line.push(values[at] ?? null);
      if (line.length > MOST) line.shift();
    });
    show();
  }

  /** Leave a gap in lines that have begun. */
  function skip() {
    if (lines[0].length) add([]);
  }

  function show() {
    const most = Math.max(...lines.flat().map((value) => value ?? 0), 1e-9);
    const last = lines.map((line) => line.at(-1) ?? null);
    const said = last.map((value, at) => [names[at], value === null ? "–" : text(value)].filter(Boolean).join(" "));
    const isEmpty = lines.flat().every((value) => !value);
    fill(
      caption,
      h("span", {}, title),
      !isEmpty && h("small", {}, `highest ${text(most)}`),
      ...said.map((one, at) => h("strong", { class: `line-${at}` }, one)),
    );
    fill(drawing, ...lines.map((line, at) => svg("path", { d: path(line, most), class: `line-${at}` })));
  }
  return { element, add, skip };
}

/**
 * The path of a line, with gaps where there are no values; the newest point is at the right.
 * @param {(number | null)[]} values
 * @param {number} most what is at the top
 */
function path(values, most) {
  const step = WIDTH / (Math.max(values.length, FEW) - 1);
  const from = WIDTH - (values.length - 1) * step;
  let pen = "M";
  return values
    .map((value, at) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const point = `${pen}${(from + at * step).toFixed(1)} ${(HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * value) / most).toFixed(1)}`;
      pen = "L";
      return point;
    })
    .join("");
}
