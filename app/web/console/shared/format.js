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
 * Bytes, in the units that disks are sold in.
 * @param {number | null | undefined} count
 */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const at = count < 1e6 ? 1e3 : count < 1e9 ? 1e6 : 1e9;
  return `${number(count / at, at === 1e9 ? 2 : 0)} ${{ 1e3: "kB", 1e6: "MB", 1e9: "GB" }[at]}`;
}

/** Bytes of a gigabyte of memory, as the server counts it. */
export const GIGABYTE = 2 ** 30;

/**
 * Memory, in gigabytes.
 * @param {number | null | undefined} gb
 */
export function memory(gb) {
  if (gb === null || gb === undefined) return "–";
  if (gb < 0.01) return "< 10 MB";
  return gb < 1 ? `${number(gb * 1024)} MB` : `${number(gb, 1)} GB`;
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
