"""Interactive clients beside a full batch, and without one. `python bench/batches/beside.py`, or with the flags

    --pairs 5       measurements with and without a batch, in turns by pairs
    --requests 60   interactive requests of each
    --rate 0.4      of them a second: at 1.0 two cores are too slow for SmolLM2's answers, whatever else runs
    --tiny          the tiny llama instead of SmolLM2, for a short look

The batch has enough lines to fill all rows whenever no interactive request lives. Rows go to
bench/results/batches_beside.json. Exit code 0 if the medians of the pairs' ratios (p95 time to first token, p95 gap
between tokens) are at most 1.1, else 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from batches.run import CHAT, client_of, ended, prompts_of, server_of, written
from lib.hardware import this_machine
from lib.processes import BENCH
from load import LoadSpec, measure
from run import demo_folder, tiny_folder

from mlx_server.app.connect.batches import BatchClient

RESULTS = BENCH / "results" / "batches_beside.json"
ALLOWED = 1.1
MAX_TOKENS = 24
LINES = 2000
SETTLE_S = 3.0
"""After it is begun a batch has filled its rows."""


def interactive(url: str, requests: int, rate: float, seed: int, pair: int) -> dict[str, float]:
    """p95 of requests that come one by one, in milliseconds; those of a pair have the same lengths."""
    prompts = prompts_of(requests, seed, lengths_seed=pair)
    summary = measure(LoadSpec(url, prompts, MAX_TOKENS, rate=rate, model="tiny")).summary
    assert summary.outcomes == {"ok": requests}, summary.outcomes
    return {"ttft_ms": summary.ttft_ms["p95"], "gap_ms": summary.itl_ms["p95"]}


def beside_batch(client: BatchClient, file: Path, measured: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The same while a batch runs, which is there before and after; with its lines that were done meanwhile."""
    batch = client.submit(file, CHAT, "24h")
    while client.get(batch.id).status == "validating":
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    before = client.get(batch.id).request_counts.ended
    found = measured()
    after = client.get(batch.id)
    assert after.status == "in_progress", "the batch has to last longer than what is measured: give it more lines"
    client.cancel(batch.id)
    ended(client, batch.id)
    return {**found, "lines": after.request_counts.ended - before}


def main() -> None:
    """Measure pairs in turns, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.4)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = demo_folder([sys.executable, "-m", "mlx_server.app"])
        model = tiny_folder(model, folder / "tiny") if options.tiny else model
        with server_of(model, folder / "data", folder / "log") as server:
            client = client_of(server)
            interactive(server.url, 4, options.rate, seed=9999, pair=9999)  # warm-up
            for pair in range(options.pairs):
                file = written(prompts_of(LINES, 1000 + pair), folder)
                found: dict[str, Any] = {}
                for side in ("beside", "alone") if pair % 2 else ("alone", "beside"):
                    # Other words for each: nothing of them is known yet.
                    seed = 2 * pair + (side == "beside")
                    measured = partial(interactive, server.url, options.requests, options.rate, seed, pair)
                    found[side] = beside_batch(client, file, measured) if side == "beside" else measured()
                ratios = {one: round(found["beside"][one] / found["alone"][one], 3) for one in found["alone"]}
                pairs.append({**found, "ratios": ratios})
                print(pairs[-1], flush=True)
    ratios = {one: median(pair["ratios"][one] for pair in pairs) for one in ("ttft_ms", "gap_ms")}
    how = {"machine": this_machine().line(), "model": "tiny" if options.tiny else "SmolLM2"}
    results = {**how, "rate": options.rate, "requests": options.requests, "ratios": ratios, "pairs": pairs}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(ratios)
    sys.exit(0 if max(ratios.values()) <= ALLOWED else 2)


if __name__ == "__main__":
    main()
