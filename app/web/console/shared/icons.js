/** Small pictures of lines, drawn in the colour of the text around them. */

import { h, svg } from "./dom.js";

/** Paths in a square of 24 by 24. */
const PATHS = {
  attach: "M21 11.5 12.5 20a5 5 0 0 1-7-7L14 4.5a3.4 3.4 0 0 1 4.8 4.8L10.3 17.8a1.7 1.7 0 0 1-2.4-2.4L15.5 8",
  chat: "M21 12a8 8 0 0 1-8 8H4l2-3.2A8 8 0 1 1 21 12Z",
  check: "m5 13 4 4L19 7",
  code: "m8 7-5 5 5 5M16 7l5 5-5 5M14 4l-4 16",
  compare: "M4 5h6v14H4zM14 5h6v14h-6z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  cross: "M6 6l12 12M18 6 6 18",
  download: "M12 4v11m0 0-4-4m4 4 4-4M4 20h16",
  edit: "M4 20h4L20 8l-4-4L4 16v4Z",
  left: "m14 6-6 6 6 6",
  logs: "M6 4h12v16H6zM9 9h6M9 13h6M9 17h3",
  menu: "M4 7h16M4 12h16M4 17h16",
  models: "m12 3 8 4.5v9L12 21l-8-4.5v-9L12 3Zm0 9 8-4.5M12 12v9M12 12 4 7.5",
  now: "M3 12h4l3-8 4 16 3-8h4",
  pause: "M8 5v14M16 5v14",
  pin: "M9 4h6l-1 6 4 3v2H6v-2l4-3-1-6Zm3 11v6",
  play: "m8 5 11 7-11 7V5Z",
  plus: "M12 5v14M5 12h14",
  redo: "M20 5v5h-5M19.5 14A8 8 0 1 1 19 8.5L20 10",
  right: "m10 6 6 6-6 6",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm5 12 5 5",
  send: "M12 20V5m0 0-6 6m6-6 6 6",
  settings:
    "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM10.5 3h3l.6 2.7 2 1.1 2.6-.9 1.5 2.6-2 1.8v2.400l2 1.8-1.5 2.6-2.6-.9-2 1.1-.6 2.7h-3l-.6-2.7-2-1.1-2.6.9-1.5-2.6 2-1.8v-2.400l-2-1.8 1.5-2.6 2.6.9 2-1.1.6-2.7Z",
  sliders: "M4 7h9m4 0h3M4 17h3m4 0h9M15 5v4M9 15v4",
  speak: "M4 10v4h3l5 4V6L7 10H4Zm12-1a4 4 0 0 1 0 6m2.5-8.5a8 8 0 0 1 0 11",
  stop: "M7 7h10v10H7z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
};

/**
 * An icon; the button around it says in words what it does.
 * @param {string} name
 */
export function icon(name) {
  const path = svg("path", {
    d: PATHS[/** @type {keyof typeof PATHS} */ (name)],
  });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, path);
}

/**
 * A button that shows an icon; its label is what it is called, and what it says to who waits over it.
 * @param {string} name
 * @param {string} label
 * @param {(event: Event) => void} act
 * @param {Record<string, any>} [more] properties
 */
export function iconButton(name, label, act, more = {}) {
  const named = { class: "bare", type: "button", title: label, "aria-label": label };
  return h("button", { ...named, onclick: act, ...more }, icon(name));
}
