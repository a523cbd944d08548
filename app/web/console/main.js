/** The page: which views there are, and which of them is shown. */

import { chatView } from "./chat/view.js";
import { modelsView } from "./models/view.js";
import { logsView } from "./now/logs.js";
import { nowView } from "./now/view.js";
import { settingsView } from "./settings/view.js";
import { h } from "./shared/dom.js";
import { icon } from "./shared/icons.js";

/**
 * A view makes its content in a place of its own when it is first shown; what it gives back is told whenever it is
 * shown and left, so that it asks the server for nothing while nobody looks.
 * @typedef {{ enter?: () => void, leave?: () => void }} Shown
 * @typedef {{ name: string, title: string, icon: string, make: (place: HTMLElement) => Shown }} View
 */

/** @type {View[]} */
const VIEWS = [chatView, nowView, modelsView, logsView, settingsView];

/** @type {Map<View, { place: HTMLElement, shown: Shown }>} */
const made = new Map();
const frame = /** @type {HTMLElement} */ (document.getElementById("view"));
const links = VIEWS.map((view) => h("a", { href: `#/${view.name}` }, icon(view.icon), h("span", {}, view.title)));

/** @type {View | undefined} */
let current;

/** Show the view that the address names, the first one if it names none. */
function show() {
  const view = VIEWS.find((one) => location.hash.startsWith(`#/${one.name}`)) ?? VIEWS[0];
  if (view === current) return;
  if (current) {
    const left = made.get(current);
    left?.shown.leave?.();
    left?.place.setAttribute("hidden", "");
  }
  current = view;
  document.title = `${view.title} · mlx-server`;
  links.forEach((link, at) =>
    VIEWS[at] === view ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current"),
  );
  if (!made.has(view)) {
    const place = h("section", {
      class: `view ${view.name}`,
      "aria-label": view.title,
    });
    frame.append(place);
    made.set(view, { place, shown: view.make(place) });
  }
  const opened = made.get(view);
  opened?.place.removeAttribute("hidden");
  opened?.shown.enter?.();
}

document.getElementById("navigation")?.append(...links);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  frame.focus();
});
window.addEventListener("hashchange", show);
show();
