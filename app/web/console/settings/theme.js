/** Light, dark, or as the system has it; kept in this browser. */

import { h } from "../shared/dom.js";

const THEMES = { "": "As the system", light: "Light", dark: "Dark" };

/** The choice between them. */
export function themePart() {
  const now = localStorage.getItem("theme") ?? "";
  const choices = Object.entries(THEMES).map(([value, text]) =>
    h(
      "label",
      { class: "choice" },
      h("input", {
        type: "radio",
        name: "theme",
        value,
        checked: value === now,
        onchange: () => choose(value),
      }),
      text,
    ),
  );
  return h("fieldset", { class: "card" }, h("legend", {}, "Theme"), h("div", { class: "row" }, ...choices));
}

/** @param {string} theme */
function choose(theme) {
  if (theme) {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  } else {
    localStorage.removeItem("theme");
    delete document.documentElement.dataset.theme;
  }
}
