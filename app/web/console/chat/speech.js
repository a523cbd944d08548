/** Reading aloud, where a model that speaks is served. */

import { ask, askJson } from "../shared/api.js";
import { tell } from "../shared/dom.js";
import { rendered } from "../shared/markdown.js";

/** @typedef {{ id: string, model: string }} Voice */

/** The most characters that are spoken at once: the server takes 4,096, but the first sound comes sooner of fewer. */
const MOST = 500;
const PARTS = new RegExp(`.{1,${MOST}}(?=\\s|$)|.{1,${MOST}}`, "gsu");

/** What stands in lines, or columns, of its own. */
const BLOCKS = "p, h1, h2, h3, h4, h5, h6, li, tr, blockquote, br, hr";
const CELLS = "td, th";

/** The voices that there are. */
export async function listVoices() {
  return /** @type {Voice[]} */ ((await askJson("/v1/audio/voices")).data);
}

/**
 * The words of Markdown, without its blocks of code, in pieces that can be spoken at once: they end where sentences do,
 * as far as these are short enough.
 * @param {string} markdown
 */
export function piecesOf(markdown) {
  const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(wordsOf(markdown));
  const parts = [...sentences].flatMap(({ segment }) => segment.match(PARTS) ?? []);
  let piece = "";
  const pieces = [];
  for (const part of parts) {
    if (piece && piece.length + part.length > MOST) {
      pieces.push(piece);
      piece = "";
    }
    piece += part;
  }
  return [...pieces, piece].map((one) => one.trim()).filter((one) => /[\p{L}\p{N}]/u.test(one));
}

/** @param {string} markdown */
function wordsOf(markdown) {
  const fragment = rendered(markdown);
  for (const code of fragment.querySelectorAll(".code")) code.remove();
  for (const cell of fragment.querySelectorAll(CELLS)) cell.after(" ");
  for (const block of fragment.querySelectorAll(BLOCKS)) block.after("\n");
  return fragment.textContent ?? "";
}

/**
 * Reads one message aloud at a time.
 * @param {(id: string) => void} changed a message is read from now on, or no more
 */
export function makeReader(changed) {
  const sound = new Audio();
  /** @type {{ id: string, ending: AbortController } | undefined} */
  let now;

  /** Fall silent; true if there was something to hear. */
  function stop() {
    if (!now) return false;
    const { id, ending } = now;
    now = undefined;
    ending.abort();
    sound.pause();
    changed(id);
    return true;
  }

  /**
   * @param {import("./conversation.js").Message} message
   * @param {Voice} voice
   */
  async function read({ id, text }, voice) {
    stop();
    const { signal } = (now = { id, ending: new AbortController() }).ending;
    changed(id);
    try {
      await readAll(sound, piecesOf(text), voice, signal);
    } catch (error) {
      if (!signal.aborted) tell(error);
    }
    if (!signal.aborted) stop();
  }
  return { read, stop, reads: (/** @type {string} */ id) => now?.id === id };
}

/**
 * Say pieces one after the other; the next one is made while one is heard.
 * @param {HTMLAudioElement} sound
 * @param {string[]} pieces
 * @param {Voice} voice
 * @param {AbortSignal} signal
 */
async function readAll(sound, pieces, voice, signal) {
  if (!pieces.length) throw new Error("There are no words in it to read aloud.");
  let next = spoken(pieces[0], voice, signal);
  for (let at = 1; at <= pieces.length; at++) {
    const piece = await next;
    if (at < pieces.length) next = spoken(pieces[at], voice, signal);
    // What goes wrong with it is told of in its turn.
    next.catch(() => {});
    await heard(sound, piece, signal);
  }
}

/**
 * @param {string} input
 * @param {Voice} voice
 * @param {AbortSignal} signal
 */
async function spoken(input, voice, signal) {
  const body = { model: voice.model, voice: voice.id, input, response_format: "mp3" };
  return (await ask("/v1/audio/speech", { body, signal })).blob();
}

/**
 * Returns once a piece has ended, or `signal` ends it.
 * @param {HTMLAudioElement} sound
 * @param {Blob} piece
 * @param {AbortSignal} signal
 */
async function heard(sound, piece, signal) {
  signal.throwIfAborted();
  URL.revokeObjectURL(sound.src);
  sound.src = URL.createObjectURL(piece);
  const ended = new Promise((resolve) => {
    sound.onended = sound.onerror = resolve;
    signal.addEventListener("abort", resolve, { once: true });
  });
  await sound.play();
  await ended;
}
