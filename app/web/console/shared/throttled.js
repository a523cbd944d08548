/** Doing less often what is asked for very often. */

/**
 * A function that is called at most once in so long, with the latest argument, until it is cancelled.
 * @template T
 * @param {(value: T) => void} act
 * @param {number} pauseMs
 */
export function throttled(act, pauseMs) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {T} */
  let latest;
  const call = (/** @type {T} */ value) => {
    latest = value;
    timer ??= setTimeout(() => {
      timer = undefined;
      act(latest);
    }, pauseMs);
  };
  return { call, cancel: () => clearTimeout(timer) };
}
