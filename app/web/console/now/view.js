/** The view of what the server does now. */

import { fill, h } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { makeModels } from "./models.js";
import { makePlots } from "./plots.js";
import { makeRequests } from "./requests.js";

/** @type {import("../main.js").View} */
export const nowView = {
  name: "now",
  title: "Now",
  icon: "now",
  make(place) {
    const problem = h("p", { class: "problem", role: "alert" });
    const [plots, models, requests] = [makePlots(), makeModels(), makeRequests()];
    place.append(
      h("div", { class: "page" }, h("h1", {}, "Now"), problem, plots.element, models.element, requests.element),
    );

    /** @param {import("../shared/feed.js").State} state */
    function show(state) {
      plots.add(state);
      models.show(state);
      requests.show(state);
    }
    const feed = listener(show, (text) => fill(problem, text));
    return { enter: feed.start, leave: feed.stop };
  },
};
