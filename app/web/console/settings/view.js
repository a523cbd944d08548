/** The settings view. */

import { h } from "../shared/dom.js";
import { themePart } from "./theme.js";

/** @type {import("../main.js").View} */
export const settingsView = {
  name: "settings",
  title: "Settings",
  icon: "settings",
  make(place) {
    place.append(h("div", { class: "page" }, h("h1", {}, "Settings"), themePart()));
    return {};
  },
};
