/** The API key of this tab. */

import { fill, h } from "../shared/dom.js";
import { forgetKey, keptKey } from "../shared/key.js";

export function makeKey() {
  const element = h("fieldset", { class: "card" }, h("legend", {}, "API key"));
  const line = h("div", { class: "row" });
  element.append(line);

  function show() {
    element.hidden = !keptKey();
    fill(
      line,
      h("span", { class: "grow" }, "This tab sends a key with its requests."),
      h("button", { type: "button", onclick: forget }, "Forget it"),
    );
  }

  function forget() {
    forgetKey();
    location.reload();
  }
  return { element, show };
}
