/** A request as commands that do the same elsewhere. */

import { copyButton } from "../shared/copy.js";
import { h } from "../shared/dom.js";
import { asCurl, asPython } from "./commands.js";

/** Pictures and sounds, in base64. */
const LONG_DATA = /([\w+/]{24})[\w+/]{200,}=*/g;

/** @param {import("./request.js").Request} request */
export function showAsCode(request) {
  const parts = { curl: asCurl(request), Python: asPython(request) };
  const dialog = h(
    "dialog",
    { "aria-labelledby": "code-title", onclose: () => dialog.remove() },
    h(
      "form",
      { method: "dialog" },
      h(
        "header",
        { class: "row" },
        h("h2", { id: "code-title", class: "grow" }, "This chat as code"),
        h("button", {}, "Close"),
      ),
      ...Object.entries(parts).map(([name, text]) =>
        h(
          "div",
          { class: "code" },
          h(
            "div",
            { class: "code-head" },
            name,
            copyButton(() => text, `Copy as ${name}`),
          ),
          h("pre", { tabindex: 0 }, text.replace(LONG_DATA, "$1…")),
        ),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}
