/** Where a message is written: text, files, and the button that sends it or stops the answer. */

import { fill, h, isComposing, tell } from "../shared/dom.js";
import { icon, iconButton } from "../shared/icons.js";
import { attached, readFile, shownFile } from "./files.js";

/** @typedef {import("./conversation.js").Attached} Attached */
/** @typedef {import("../shared/models.js").Model} Model */

/**
 * A file that is being read, until `ending` ends that.
 * @typedef {{ file: File, ending: AbortController }} Reading
 */

/**
 * @param {{
 *   send: (text: string, files: Attached[]) => void, stop: () => void, open: () => unknown,
 *   models: () => Promise<{ model?: Model, listener?: Model }>,
 * }} chat `open`: the conversation; `models`: that of it, and one that writes down sounds
 */
export function makeComposer(chat) {
  /** @type {Attached[]} */
  let files = [];
  /** @type {Reading[]} */
  let reading = [];
  let taken = Promise.resolve();
  /** How many could not be read. */
  let failed = 0;
  let running = false;
  const text = h("textarea", {
    rows: 1,
    placeholder: "Write a message",
    "aria-label": "Message",
    oninput: grow,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) {
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

  /** What is written stays until it is known which model it is for, and its files are read. */
  async function submit() {
    const empty = () => !text.value.trim() && !files.length && !reading.length;
    if (running || go.disabled || empty()) return;
    go.disabled = true;
    const open = chat.open();
    const failedBefore = failed;
    try {
      await chat.models();
      while (reading.length) await taken;
    } catch (error) {
      return tell(error);
    } finally {
      go.disabled = false;
    }
    if (running || empty() || chat.open() !== open || failed > failedBefore) return;
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

  /**
   * Read files, one after the other.
   * @param {File[]} given
   */
  function take(given) {
    const more = given.map((file) => ({ file, ending: new AbortController() }));
    reading = [...reading, ...more];
    for (const one of more) taken = taken.then(() => read(one));
    showFiles();
  }

  /** @param {Reading} one */
  async function read(one) {
    const { signal } = one.ending;
    if (signal.aborted) return;
    try {
      const { model, listener } = await chat.models();
      const file = await attached(one.file, model, listener, signal);
      if (!signal.aborted) files.push(file);
    } catch (error) {
      if (!signal.aborted) {
        failed += 1;
        tell(error);
      }
    }
    drop(one);
  }

  /** @param {Reading} one that is read no more */
  function drop(one) {
    one.ending.abort();
    reading = reading.filter((other) => other !== one);
    showFiles();
  }

  function showFiles() {
    const remove = (/** @type {Attached} */ file) => () => {
      files = files.filter((one) => one !== file);
      showFiles();
    };
    const unread = reading.map((one) => readFile(one.file.name, () => drop(one)));
    fill(shown, ...files.map((file) => shownFile(file, remove(file))), ...unread);
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
