/** Numbers and times for people. */

/**
 * @param {number} value
 * @param {number} [digits] behind the point
 */
export function number(value, digits = 0) {
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/**
 * Bytes of a file, in the units of hubs and disks.
 * @param {number | null | undefined} count
 */
export function bytes(count) {
  return inUnits(count, 1000, ["B", "kB", "MB", "GB"]);
}

/**
 * What a field named `_gb` says, in bytes.
 * @param {number | null} gb
 */
export function inBytes(gb) {
  return gb === null ? null : gb * 2 ** 30;
}

/**
 * Bytes of memory.
 * @param {number | null | undefined} count
 */
export function memory(count) {
  return inUnits(count, 1024, ["B", "KiB", "MiB", "GiB"]);
}

/**
 * In the largest unit that is reached; only the last one has a digit behind the point.
 * @param {number | null | undefined} count
 * @param {number} step
 * @param {string[]} units
 */
function inUnits(count, step, units) {
  if (count === null || count === undefined) return "–";
  let [at, value] = [0, count];
  for (; at < units.length - 1 && Math.round(value) >= step; at++) value /= step;
  return `${number(value, at === units.length - 1 ? 1 : 0)} ${units[at]}`;
}

/**
 * A length of time, exact where it is short.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 1) return `${number(seconds * 1000)} ms`;
  if (seconds < 90) return `${number(seconds, 1)} s`;
  if (seconds < 5400) return `${number(seconds / 60)} min`;
  return `${number(seconds / 3600, 1)} h`;
}

/**
 * How many tokens, shortly: a context of 131072 is 128k.
 * @param {number | null | undefined} tokens
 */
export function tokens(tokens) {
  if (!tokens) return "–";
  if (tokens % 1024 === 0 && tokens < 1 << 20) return `${tokens / 1024}k`;
  return tokens >= 1 << 20 ? `${number(tokens / (1 << 20), 1)}M` : number(tokens);
}

/**
 * The time of day there and then, to a thousandth of a second.
 * @param {string} time
 */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    fractionalSecondDigits: 3,
  });
}

/**
 * When something was, from now.
 * @param {string | number | null | undefined} time
 */
export function ago(time) {
  if (!time) return "never";
  const seconds = (Date.now() - new Date(time).getTime()) / 1000;
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString("en", {
    day: "numeric",
    month: "short",
    year: "numeric",
  });
}
