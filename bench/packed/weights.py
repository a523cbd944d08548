"""What it is worth that quantised weights stay packed on a CPU, beside a copy of them in float32.

    python bench/packed/weights.py MODEL [--pairs 5] [--clients 1,4,8] [--name packed]

Each side is a process in a worker's environment that holds the model its own way; they decode the same rows in turns.
Ratios are packed over float32, within a pair: tokens per second with so many rows, tokens per second of a prompt that
is read, and memory, of the weights as MLX counts them and of the whole process as the system does. Greedy tokens of
both sides are compared. Raw rows go to bench/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.pairs import spread
from lib.processes import BENCH

from mlx_server.workers.parent.environment import child_environment

SIDES = ("packed", "float32")
PROMPT, READ = 16, 256
"""Tokens of the prompts before what is decoded, and of the prompt that is read."""


class Holder:
    """A process that holds the model one way."""

    def __init__(self, side: str, model: Path) -> None:
        command = [sys.executable, __file__, str(model), "--side", side]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
        )
        self.loaded = self._told()

    def measure(self, rows: int, steps: int) -> dict[str, Any]:
        """Decode so many rows, or with none read a prompt."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([rows, steps]) + "\n")
        self._process.stdin.flush()
        return self._told()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told


def hold(side: Any, folder: Path) -> None:
    """Load the model, and measure as standard input says."""
    import mlx.core as mx
    import psutil

    from mlx_server.workers.engine.loading.loading import evaluate, read_model
    from mlx_server.workers.engine.runtime.platform import configure

    configure()
    model, _, notes = read_model(folder, side)
    size = evaluate(model, lambda _: None)
    decode(model, 1, 2)
    memory = psutil.Process().memory_info().rss
    print(json.dumps({"weights": size, "process": memory, "peak": mx.get_peak_memory(), "notes": notes}), flush=True)
    for line in sys.stdin:
        rows, steps = json.loads(line)
        told = decode(model, rows, steps) if rows else read(model)
        print(json.dumps(told), flush=True)


def decode(model: Any, rows: int, steps: int) -> dict[str, Any]:
    """Tokens per second of the server's rows, and the tokens."""
    from mlx_lm.models.cache import make_prompt_cache

    from mlx_server.schemas.internal.generation import Limits, Sampling
    from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
    from mlx_server.workers.engine.sequence import Sequence

    batch, rng = DecodeBatch(model, set()), random.Random(0)
    for number in range(rows):
        prompt = [rng.randrange(100, 2000) for _ in range(PROMPT)]
        cache = make_prompt_cache(model)
        enter(model, prompt[:-1], cache)
        sequence = Sequence((number, 0), prompt, 1 << 30, Sampling(temperature=0.0), Limits(ignore_eos=True))
        batch.join([sequence], cache, {})
    tokens = []
    batch.step()
    began = perf_counter()
    for _ in range(steps):
        tokens += [produced.token for produced in batch.step()]
    return {"tokens_per_s": rows * steps / (perf_counter() - began), "tokens": tokens}


def read(model: Any) -> dict[str, Any]:
    """Tokens per second of a prompt."""
    from mlx_lm.models.cache import make_prompt_cache

    began = perf_counter()
    enter(model, list(range(100, 100 + READ)), make_prompt_cache(model))
    return {"tokens_per_s": READ / (perf_counter() - began), "tokens": []}


def enter(model: Any, tokens: list[int], cache: list[Any]) -> None:
    """Have a cache hold what a prompt leaves there."""
    import mlx.core as mx

    from mlx_server.workers.engine.passes.prompts import for_its_states

    with for_its_states(cache):
        model(mx.array([tokens]), cache=cache)
    mx.eval([layer.state for layer in cache])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clients", default="1,4,8")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--name", default="packed")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side is not None:
        hold(given.side, given.model)
        return
    machine, holders = this_machine(), {side: Holder(side, given.model) for side in SIDES}
    memory = {side: holder.loaded for side, holder in holders.items()}
    shares = {what: memory["packed"][what] / memory["float32"][what] for what in ("weights", "process")}
    print(shares, flush=True)
    results, rows = BENCH / "results" / f"{given.name}.json", list[dict[str, Any]]()
    for pair in range(given.pairs):
        for clients in (*map(int, given.clients.split(",")), 0):
            rows.append(measured(holders, pair, clients, given.steps))
            print(rows[-1], flush=True)
        found = {"model": given.model.name, "machine": asdict(machine), "summary": summed_up(rows), "shares": shares}
        results.write_text(json.dumps({**found, "memory": memory, "rows": rows}, indent=1) + "\n")
    print(summed_up(rows))
    for holder in holders.values():
        holder.close()


def measured(holders: dict[str, Holder], pair: int, clients: int, steps: int) -> dict[str, Any]:
    """One pair: who goes first alternates."""
    told = {}
    for side in SIDES[:: -1 if pair % 2 else 1]:
        with OthersWatch() as others:
            told[side] = holders[side].measure(clients, steps)
        told[side]["others_cores"] = others.cores
    tokens = [told[side].pop("tokens") for side in SIDES]
    ratio = told["packed"]["tokens_per_s"] / told["float32"]["tokens_per_s"]
    return {"pair": pair, "clients": clients, "ratio": ratio, "equal": tokens[0] == tokens[1], **told}


def summed_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios by the number of clients."""
    counts = sorted({row["clients"] for row in rows})
    of = {count: spread([row["ratio"] for row in rows if row["clients"] == count]) for count in counts}
    return {f"{count} clients" if count else "reading": asdict(found) for count, found in of.items()}


if __name__ == "__main__":
    main()
