/** Where a message is written: text, files, and the button that sends it or stops the answer. */

import { fill, h, tell } from "../shared/dom.js";
import { icon, iconButton } from "../shared/icons.js";
import { attached, shownFile } from "./files.js";

/** @typedef {import("./conversation.js").Attached} Attached */
/** @typedef {import("../shared/models.js").Model} Model */

/**
 * @param {{
 *   send: (text: string, files: Attached[]) => void, stop: () => void,
 *   models: () => Promise<{ model?: Model, listener?: Model }>,
 * }} chat `models`: that of the conversation, and one that writes down sounds
 */
export function makeComposer(chat) {
  /** @type {Attached[]} */
  let files = [];
  let running = false;
  const text = h("textarea", {
    rows: 1,
    placeholder: "Write a message",
    "aria-label": "Message",
    oninput: grow,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        submit();
      }
    },
    onpaste: (/** @type {ClipboardEvent} */ event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (pasted.length) event.preventDefault();
      take(pasted);
    },
  });
  const shown = h("div", { class: "files" });
  const picker = h("input", {
    type: "file",
    multiple: true,
    hidden: true,
    onchange: chosen,
  });
  const attach = iconButton("attach", "Attach files", () => picker.click());
  const go = h(
    "button",
    {
      class: "primary send",
      type: "submit",
      title: "Send",
      "aria-label": "Send",
    },
    icon("send"),
  );
  const form = h(
    "form",
    {
      class: "composer",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        if (running) chat.stop();
        else submit();
      },
    },
    shown,
    h("div", { class: "writing" }, attach, picker, text, go),
  );

  function grow() {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, 240)}px`;
  }

  /** What is written stays until it is known which model it is for. */
  async function submit() {
    const empty = () => !text.value.trim() && !files.length;
    if (running || go.disabled || empty()) return;
    go.disabled = true;
    try {
      await chat.models();
    } catch (error) {
      return tell(error);
    } finally {
      go.disabled = false;
    }
    if (running || empty()) return;
    const said = text.value.trim();
    const given = files;
    files = [];
    text.value = "";
    grow();
    showFiles();
    chat.send(said, given);
  }

  function chosen() {
    take([...picker.files]);
    picker.value = "";
  }

  /** @param {File[]} given */
  async function take(given) {
    for (const file of given) {
      try {
        const { model, listener } = await chat.models();
        files.push(await attached(file, model, listener));
      } catch (error) {
        tell(error);
      }
    }
    showFiles();
  }

  function showFiles() {
    const remove = (/** @type {Attached} */ file) => () => {
      files = files.filter((one) => one !== file);
      showFiles();
    };
    fill(shown, ...files.map((file) => shownFile(file, remove(file))));
  }

  /** @param {boolean} now an answer is being written */
  function setRunning(now) {
    running = now;
    const label = now ? "Stop" : "Send";
    go.title = label;
    go.setAttribute("aria-label", label);
    fill(go, icon(now ? "stop" : "send"));
  }
  return { element: form, take, setRunning, focus: () => text.focus() };
}
