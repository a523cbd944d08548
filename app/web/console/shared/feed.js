/** The server's live feed, while somebody looks. */

import { ask, eventsOf } from "./api.js";

/** How long to wait before the feed is asked for again, in milliseconds. */
const AGAIN_MS = 3000;

/**
 * @typedef {{ count: number, p50: number, p95: number, p99: number }} Percentiles in seconds
 * @typedef {{ name: string, type: string, state: string, error: string | null, workers: Record<string, number>,
 *   restarts: number, pids: number[], waiting: number, running: number, rows_used: number, rows_granted: number,
 *   tokens_per_s: number | null, first_token_s: Percentiles | null, gap_s: Percentiles | null,
 *   cache_hit_rate: number | null, refused: number, memory_bytes: number, granted_bytes: number | null,
 *   loading: { phase: string, done: number, total: number } | null }} Model
 * @typedef {{ id: string | null, model: string, key: string | null, state: string, age_s: number,
 *   position: number | null, eta_s: number | null, prompt_tokens: number | null, processed_tokens: number | null,
 *   tokens: number, tokens_per_s: number | null, job: { done: number, total: number, unit: string } | null }} Request
 * @typedef {{ age_s: number, tokens_per_s: number, refused_per_s: number, running: number, waiting: number,
 *   first_token_s: Percentiles | null, gap_s: Percentiles | null, cache_hit_rate: number | null }} LivePoint
 * @typedef {{ window_s: number, memory_limit_bytes: number | null, too_many_requests: number, history: LivePoint[] | null,
 *   now: LivePoint, models: Model[], requests: Request[], more_requests: number, waiting_requests: number }} State
 */

/**
 * Listens between `start` and `stop`, but not while the page is hidden; it begins anew when the feed ends.
 * @param {(state: State) => void} show
 * @param {(problem: string) => void} tell why there is nothing to show; nothing once there is
 */
export function listener(show, tell) {
  /** @type {AbortController | undefined} */
  let open;
  let wanted = false;

  /** @param {AbortSignal} signal */
  async function listen(signal) {
    while (!signal.aborted) {
      try {
        const answer = await ask("/v1/live", { signal });
        for await (const { data } of eventsOf(answer)) {
          tell("");
          show(JSON.parse(data));
        }
        tell("The server has stopped.");
      } catch (error) {
        if (!signal.aborted) tell(/** @type {Error} */ (error).message);
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  function update() {
    const should = wanted && !document.hidden;
    if (should === Boolean(open)) return;
    open?.abort();
    open = should ? new AbortController() : undefined;
    if (open) listen(open.signal);
  }
  document.addEventListener("visibilitychange", update);
  return {
    start() {
      wanted = true;
      update();
    },
    stop() {
      wanted = false;
      update();
    },
  };
}
