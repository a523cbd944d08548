/** Files that are dropped, pasted or chosen: what the model can take of them. */

import { ask } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { iconButton } from "../shared/icons.js";

/** @typedef {import("./conversation.js").Attached} Attached */
/** @typedef {import("../shared/models.js").Model} Model */

const MOST_TEXT = 1 << 20;

/**
 * What a message may have of a file; a sound that the model can't hear is written down by one that can. Throws
 * ServerError, or an Error that says why it can't be had.
 * @param {File} file
 * @param {Model | undefined} model
 * @param {Model | undefined} listener a model that writes down sounds
 * @param {AbortSignal} signal
 * @returns {Promise<Attached>}
 */
export async function attached(file, model, listener, signal) {
  if (!model) throw new Error("There is no model to show it to.");
  const kind = file.type.split("/")[0];
  if (kind === "image") {
    if (!model.takes.includes("image") && model.type !== "image") throw new Error(`${model.name} takes no pictures.`);
    return {
      kind: "image",
      name: file.name || "picture.png",
      url: await dataUrl(file),
    };
  }
  if (kind === "audio") {
    if (model.takes.includes("audio")) return { kind: "audio", name: file.name, url: await dataUrl(file) };
    if (!listener) throw new Error(`${model.name} takes no sounds, and no model that writes them down is served.`);
    return {
      kind: "text",
      name: file.name,
      text: await writtenDown(file, listener, signal),
    };
  }
  if (file.size > MOST_TEXT) throw new Error(`${file.name} is longer than 1 MB.`);
  const text = await file.text();
  if (text.includes("\0")) throw new Error(`${file.name} is neither a text nor a picture or a sound.`);
  return { kind: "text", name: file.name, text };
}

/**
 * @param {File} file
 * @param {Model} listener
 * @param {AbortSignal} signal
 */
async function writtenDown(file, listener, signal) {
  const form = new FormData();
  form.append("model", listener.name);
  form.append("file", file);
  return (await (await ask("/v1/audio/transcriptions", { body: form, signal })).json()).text;
}

/**
 * @param {File} file
 * @returns {Promise<string>}
 */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/**
 * A file that is not read yet, as it is shown beside a text.
 * @param {string} name
 * @param {() => void} remove
 */
export function readFile(name, remove) {
  const text = h("span", { class: "tag waiting" }, `Reading ${name}`);
  return h("span", { class: "file" }, text, iconButton("cross", `Remove ${name}`, remove));
}

/**
 * A file as it is shown beside a text.
 * @param {Attached} file
 * @param {() => void} [remove]
 */
export function shownFile(file, remove) {
  const content = {
    image: () => h("img", { src: file.url, alt: file.name }),
    audio: () => h("audio", { src: file.url, controls: true, "aria-label": file.name }),
    text: () => h("span", { class: "tag" }, file.name),
  }[file.kind]();
  const button = remove && iconButton("cross", `Remove ${file.name}`, remove);
  return h("span", { class: `file ${file.kind}` }, content, button);
}
