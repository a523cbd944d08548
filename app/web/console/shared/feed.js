/** The server's live feed, while somebody looks: one stream for all of the page. */

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
 * @typedef {{ window_s: number, memory_limit_bytes: number | null, too_many_requests: number,
 *   history: LivePoint[] | null, now: LivePoint, models: Model[], requests: Request[], more_requests: number,
 *   waiting_requests: number }} State
 */

/**
 * What only those are told who ask for it: as `GET /v1/batches` has them, as `GET /api/models/downloads` has them, and
 * all lines of the log that there are in the first event, the new ones in others.
 * @typedef {{ id: string, model: string | null, endpoint: string, status: string, created_at: number,
 *   output_file_id: string | null, error_file_id: string | null, errors: { data: { message: string }[] } | null,
 *   request_counts: { total: number, completed: number, failed: number },
 *   waiting_for: "hours" | "model" | "turn" | null }} Batch
 * @typedef {{ download_id: string, model_id: string, status: string, progress_percent: number, done_bytes: number,
 *   total_bytes: number, bytes_per_second: number | null, eta_seconds: number | null, error: string | null }} Download
 * @typedef {{ number: number, at: string, level: string, logger: string, text: string }} Line
 * @typedef {{ batches?: Batch[], downloads?: Download[], logs?: { lines: Line[] } }} Parts
 */

/**
 * @typedef {{ show: (state: State & Parts) => void, tell: (problem: string) => void, begin: () => void,
 *   parts: (keyof Parts)[] }} Listener
 */

/** @type {Set<Listener>} those who listen now, to one stream with all that any of them asks for */
const listening = new Set();
/** @type {AbortController | undefined} */
let open;

/**
 * Listens between `start` and `stop`, but not while the page is hidden; it begins anew when the feed ends.
 * `tell` is told why there is nothing to show, and nothing once there is; `begin` is called before the first state of
 * each stream, as others may have been missed; `parts` are to be told beside the state.
 * @param {Listener["show"]} show
 * @param {Partial<Listener>} [more]
 */
export function listener(show, { tell = () => {}, begin = () => {}, parts = [] } = {}) {
  const one = { show, tell, begin, parts };
  return {
    start() {
      listening.add(one);
      renew();
    },
    stop() {
      listening.delete(one);
      renew();
    },
  };
}

/** End the stream, and begin the one that is wanted now. */
function renew() {
  open?.abort();
  open = listening.size && !document.hidden ? new AbortController() : undefined;
  if (open) listen(open.signal);
}
document.addEventListener("visibilitychange", renew);

/** @param {AbortSignal} signal */
async function listen(signal) {
  await null; // those who come and go together have one stream
  const all = [...listening];
  /** @param {string} problem */
  const tell = (problem) => all.forEach((one) => one.tell(problem));
  while (!signal.aborted) {
    try {
      const answer = await ask(address(all), { signal });
      for (const one of all) one.begin();
      for await (const { data } of eventsOf(answer)) {
        if (signal.aborted) return;
        tell("");
        const state = JSON.parse(data);
        for (const one of all) one.show(state);
      }
      tell("The server has stopped.");
    } catch (error) {
      if (!signal.aborted) tell(/** @type {Error} */ (error).message);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** @param {Listener[]} all */
function address(all) {
  const parts = new Set(all.flatMap((one) => one.parts));
  return parts.size ? `/v1/live?with=${[...parts]}` : "/v1/live";
}
