/** The settings view. */

import { fill, h } from "../shared/dom.js";
import { makeBenchmark } from "./benchmark.js";
import { makeKey } from "./key.js";
import { makeLimits } from "./limits.js";
import { makeServerSettings } from "./server.js";
import { themePart } from "./theme.js";

/** @type {import("../main.js").View} */
export const settingsView = {
  name: "settings",
  title: "Settings",
  icon: "settings",
  make(place) {
    const problem = h("p", { class: "problem", role: "alert" });
    const key = makeKey();
    const parts = [makeServerSettings(), makeLimits(), makeBenchmark()];
    place.append(
      h(
        "div",
        { class: "page" },
        h("h1", {}, "Settings"),
        problem,
        themePart(),
        key.element,
        ...parts.map((part) => part.element),
      ),
    );
    return {
      async enter() {
        fill(problem);
        key.show();
        try {
          await Promise.all(parts.map((part) => part.read()));
        } catch (error) {
          fill(problem, /** @type {Error} */ (error).message);
        }
        key.show();
      },
    };
  },
};
