/** A request as commands that do the same elsewhere. */

import { copyButton } from "../shared/copy.js";
import { h } from "../shared/dom.js";
import { asCurl, asPython } from "./request.js";

const LONG_DATA = /(data:[\w/+.-]+;base64,[\w+/=]{24})[\w+/=]+/g;

/** @param {Record<string, any>} body of a chat completion */
export function showAsCode(body) {
  const parts = { curl: asCurl(body), Python: asPython(body) };
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
