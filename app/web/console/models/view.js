/** The models view: what is here, what the hub has, and two models side by side. */

import { h } from "../shared/dom.js";
import { comparePart } from "./compare.js";
import { makeDownloads } from "./downloads.js";
import { makeHub } from "./hub.js";
import { makeInstalled } from "./installed.js";

/** @type {import("../main.js").View} */
export const modelsView = {
  name: "models",
  title: "Models",
  icon: "models",
  make(place) {
    const hub = makeHub((id) => downloads.start(id));
    const installed = makeInstalled((models, limit) => {
      hub.compare(
        models.map((one) => one.name),
        limit,
      );
      compare.offer(models);
    });
    const downloads = makeDownloads(installed.refresh);
    const compare = comparePart();
    place.append(
      h(
        "div",
        { class: "page" },
        h("h1", {}, "Models"),
        installed.element,
        downloads.element,
        hub.element,
        compare.element,
      ),
    );
    return {
      enter() {
        installed.enter();
        downloads.enter();
      },
      leave() {
        installed.leave();
        downloads.leave();
      },
    };
  },
};
