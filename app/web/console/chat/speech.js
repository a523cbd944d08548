/** Reading aloud, where a model that speaks is served. */

import { ask, askJson } from "../shared/api.js";
import { fill, tell } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

/** @typedef {{ id: string, model: string }} Voice */

/** The voices that there are. */
export async function listVoices() {
  return /** @type {Voice[]} */ ((await askJson("/v1/audio/voices")).data);
}

const sound = new Audio();

/** @type {AbortController | undefined} */
let reading;

/**
 * Read a text aloud, or fall silent where that is what the button's last press began.
 * @param {string} text
 * @param {Voice} voice
 * @param {Event} pressed
 */
export async function speak(text, voice, pressed) {
  const button = /** @type {HTMLElement} */ (pressed.currentTarget);
  const began = button.dataset.reading === "true";
  reading?.abort();
  sound.pause();
  if (began) return;
  const mine = (reading = new AbortController());
  mark(button, true);
  mine.signal.addEventListener("abort", () => mark(button, false));
  try {
    const body = {
      model: voice.model,
      voice: voice.id,
      input: text,
      response_format: "mp3",
    };
    const answer = await ask("/v1/audio/speech", { body, signal: mine.signal });
    URL.revokeObjectURL(sound.src);
    sound.src = URL.createObjectURL(await answer.blob());
    sound.onended = () => mine.abort();
    await sound.play();
  } catch (error) {
    if (!mine.signal.aborted) tell(error);
    mine.abort();
  }
}

/**
 * @param {HTMLElement} button
 * @param {boolean} now it reads
 */
function mark(button, now) {
  button.dataset.reading = String(now);
  button.title = now ? "Stop reading" : "Read aloud";
  button.setAttribute("aria-label", button.title);
  fill(button, icon(now ? "stop" : "speak"));
}
