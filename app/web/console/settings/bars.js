/** A plain chart of bars. */

import { h, svg } from "../shared/dom.js";

const [WIDTH, HEIGHT, FOOT, HEAD] = [360, 150, 20, 18];

/**
 * Values as bars, each with its number above and its place below.
 * @param {string} title
 * @param {number[]} values not negative
 * @param {(value: number) => string} text
 */
export function bars(title, values, text) {
  const most = Math.max(...values, 1e-9);
  const step = WIDTH / values.length;
  const width = Math.min(48, step * 0.7);
  const isCrowded = step < 34;
  const parts = values.flatMap((value, at) => {
    const height = ((HEIGHT - FOOT - HEAD) * value) / most;
    const middle = step * (at + 0.5);
    const bar = svg(
      "rect",
      {
        x: middle - width / 2,
        y: HEIGHT - FOOT - height,
        width,
        height,
        rx: 3,
      },
      svg("title", {}, text(value)),
    );
    if (isCrowded) return [bar];
    return [
      bar,
      svg("text", { x: middle, y: HEIGHT - FOOT - height - 5 }, text(value)),
      svg("text", { x: middle, y: HEIGHT - 5, class: "place" }, String(at + 1)),
    ];
  });
  const label = `${title}: ${values.map(text).join(", ")}`;
  return h(
    "figure",
    {},
    h("figcaption", {}, title),
    svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        "aria-label": label,
        class: "bars",
      },
      ...parts,
    ),
  );
}
