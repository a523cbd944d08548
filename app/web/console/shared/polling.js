/** Asking again and again while somebody looks. */

/**
 * Calls `look` at once and then after each pause, which is short while `look` says that something moves.
 * @param {() => Promise<boolean>} look
 * @param {{ movingMs: number, restingMs: number }} pauses
 */
export function polling(look, { movingMs, restingMs }) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let on = false;
  let round = 0;
  let last = Promise.resolve(false);

  async function now() {
    clearTimeout(timer);
    const mine = ++round;
    // One after the other, so that no older answer comes last.
    last = last.then(() => look()).catch(() => false);
    const moves = await last;
    if (on && mine === round) timer = setTimeout(now, moves ? movingMs : restingMs);
  }
  return {
    now,
    start() {
      on = true;
      return now();
    },
    stop() {
      on = false;
      clearTimeout(timer);
    },
  };
}
