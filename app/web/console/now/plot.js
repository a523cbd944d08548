/** Lines of the last minutes. */

import { fill, h, svg } from "../shared/dom.js";

const [WIDTH, HEIGHT, EDGE] = [300, 72, 3];

/** How many minutes a plot shows at most: one at first, and one more whenever its points are older. */
const MOST_MINUTES = 5;
const MINUTE_MS = 60_000;

/** @typedef {{ at: number, values: (number | null)[] }} Point `at` is in milliseconds, of the same clock as all others */

/**
 * A plot that grows by a point with each state.
 * @param {string} title
 * @param {string[]} names what its lines are called; a single one needs no name
 * @param {(value: number) => string} text
 */
export function makePlot(title, names, text) {
  /** @type {Point[]} */
  let points = [];
  const caption = h("figcaption", {});
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const left = h("span", {});
  const axis = h("small", { class: "axis" }, left, h("span", {}, "now"));
  const element = h("figure", { class: "plot" }, caption, drawing, axis);
  show();

  /**
   * Begin anew with what was.
   * @param {Point[]} before
   */
  function begin(before) {
    points = before;
  }

  /** @param {Point} point its values are one for each line; null where there is none */
  function add(point) {
    points = [...points.filter(({ at }) => point.at - at < MOST_MINUTES * MINUTE_MS), point];
    show();
  }

  function show() {
    const now = points.at(-1)?.at ?? 0;
    const minutes = Math.floor((now - (points[0]?.at ?? 0)) / MINUTE_MS) + 1;
    const known = points.flatMap(({ values }) => values.map((value) => value ?? 0));
    const most = Math.max(...known, 1e-9);
    const last = points.at(-1)?.values ?? names.map(() => null);
    const said = last.map((value, at) => [names[at], value === null ? "–" : text(value)].filter(Boolean).join(" "));
    const isEmpty = known.every((value) => !value);
    const place = (/** @type {Point} */ { at }) => WIDTH * (1 - (now - at) / (minutes * MINUTE_MS));
    const line = (/** @type {number} */ at) => points.map((point) => ({ x: place(point), value: point.values[at] }));
    fill(left, `${minutes} min ago`);
    fill(
      caption,
      h("span", {}, title),
      !isEmpty && h("small", {}, `highest ${text(most)}`),
      ...said.map((one, at) => h("strong", { class: `line-${at}` }, one)),
    );
    fill(drawing, ...names.map((_, at) => svg("path", { d: path(line(at), most), class: `line-${at}` })));
  }
  return { element, begin, add };
}

/**
 * The path of a line, with gaps where there are no values.
 * @param {{ x: number, value: number | null }[]} points
 * @param {number} most what is at the top
 */
function path(points, most) {
  let pen = "M";
  return points
    .map(({ x, value }) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const point = `${pen}${x.toFixed(1)} ${(HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * value) / most).toFixed(1)}`;
      pen = "L";
      return point;
    })
    .join("");
}
