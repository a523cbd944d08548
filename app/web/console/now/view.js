/** The view of what the server does now. */

import { fill, h } from "../shared/dom.js";
import { listener } from "../shared/feed.js";
import { makeBatches } from "./batches.js";
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
    const [plots, models, requests, batches] = [makePlots(), makeModels(), makeRequests(), makeBatches()];
    const parts = [plots, models, requests, batches].map((one) => one.element);
    place.append(h("div", { class: "page" }, h("h1", {}, "Now"), problem, ...parts));

    /** @param {import("../shared/feed.js").State} state */
    function show(state) {
      plots.add(state);
      models.show(state);
      requests.show(state);
    }
    const feed = listener(show, { tell: (text) => fill(problem, text) });

    function enter() {
      feed.start();
      batches.enter();
    }

    function leave() {
      feed.stop();
      batches.leave();
    }
    return { enter, leave };
  },
};
