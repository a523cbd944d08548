"""What it is worth that rows of like length decode together: short ones beside a long one, grouped and in one batch.

`python bench/lengths.py MODEL [--long 6000] [--short 7] [--pairs 5]` writes results/lengths.json with every raw row.
Both sides step the same rows, in turns; the long one's prompt is read once, before.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from lib.hardware import this_machine
from lib.inside import become_a_worker

SHORT_TOKENS = 64
RESULTS = Path(__file__).parent / "results" / "lengths.json"


def read(model: Any, tokens: list[int]) -> list[Any]:
    """The cache [one row] of all tokens but the last."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache: list[Any] = make_prompt_cache(model)
    for start in range(0, len(tokens) - 1, 512):
        model(mx.array([tokens[start : min(start + 512, len(tokens) - 1)]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    mx.clear_cache()
    return cache


def step(rows: Any) -> None:
    """A token for every row."""
    for batch in rows.batches:
        batch.step()


def measure(model: Any, own_cost: float, prompts: list[list[int]], caches: list[list[Any]], steps: int) -> list[float]:
    """Step the rows: the groups that they were in, seconds for each step, and the most bytes that were taken."""
    import mlx.core as mx

    from mlx_server.schemas.internal.generation import Limits, Sampling
    from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
    from mlx_server.workers.engine.decode.length_buckets import LengthBuckets
    from mlx_server.workers.engine.sequence import Sequence

    rows, sampling = LengthBuckets(lambda: DecodeBatch(model, set()), own_cost), Sampling(temperature=0.0)
    before = mx.get_active_memory()
    for number, (prompt, cache) in enumerate(zip(prompts, caches, strict=True)):
        one = Sequence((number, 0), prompt, 1 << 30, sampling, Limits(ignore_eos=True))
        rows.join([([one], copy.deepcopy(cache))], {})
    for _ in range(2):
        step(rows)
    mx.reset_peak_memory()
    began = perf_counter()
    for _ in range(steps):
        step(rows)
    per_step = (perf_counter() - began) / steps
    return [len(rows.groups), per_step, mx.get_peak_memory() - before]


def inside(given: argparse.Namespace) -> None:
    """Measure and write."""
    import mlx.core as mx

    from mlx_server.workers.engine.decode.admission import footprint
    from mlx_server.workers.engine.decode.kv_budget import USABLE
    from mlx_server.workers.engine.decode.length_buckets import ALL_TOGETHER
    from mlx_server.workers.engine.loading.loading import evaluate, read_model
    from mlx_server.workers.engine.runtime.platform import configure, free_bytes

    configure()
    model, _, _ = read_model(given.model, "auto")
    size = footprint(model, evaluate(model, lambda _: None))
    costs = {"grouped": size.own_cost(USABLE * free_bytes()), "one batch": ALL_TOGETHER}
    rng = random.Random(0)
    lengths = [SHORT_TOKENS] * given.short + [given.long]
    prompts = [[rng.randrange(1000, 40_000) for _ in range(length)] for length in lengths]
    caches = [read(model, prompt) for prompt in prompts]
    rows = []
    for pair in range(given.pairs):
        for side in sorted(costs, reverse=bool(pair % 2)):
            groups, seconds, nbytes = measure(model, costs[side], prompts, caches, given.steps)
            rows.append({"pair": pair, "side": side, "groups": groups, "ms": 1000 * seconds, "mb": nbytes / 1e6})
            print(rows[-1], flush=True)
            mx.clear_cache()
    each = {side: [row for row in rows if row["side"] == side] for side in costs}
    ratios = [b["ms"] / a["ms"] for a, b in zip(each["grouped"], each["one batch"], strict=True)]
    summary = {
        "speed_up": {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)},
        **{side: {key: statistics.median(row[key] for row in each[side]) for key in ("ms", "mb")} for side in costs},
    }
    print(summary)
    facts = {"machine": asdict(this_machine()), "long": given.long, "short": given.short, "steps": given.steps}
    RESULTS.write_text(json.dumps({**facts, "summary": summary, "rows": rows}, indent=1))


def main() -> None:
    """Go on in the environment of a worker, with its BLAS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--long", type=int, default=6000)
    parser.add_argument("--short", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    become_a_worker()
    inside(given)


if __name__ == "__main__":
    main()
