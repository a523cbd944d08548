"""What it is worth that quantised weights stay packed on a CPU, beside a copy of them in float32.

    python bench/packed/weights.py MODEL [--pairs 5] [--clients 1,4,8] [--name packed] [--llama-cpp q4_1 q4_0]

Each side is a process in a worker's environment that holds the model its own way; they decode the same rows in turns.
With `--llama-cpp` (`make bench-packed` makes its environment) llama.cpp is a side too, with the same 4-bit codes (q4_1)
or the nearest weights of the form that it computes fastest (q4_0; see gguf_file.py), and as many threads. Ratios are
packed over another side, within a pair: tokens per second with so many rows, tokens per second of a prompt that is
read, and memory, of the weights as each side counts them and of the whole process as the system does. The share of
greedy tokens that are equal is told. Raw rows go to bench/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from operator import eq
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.pairs import spread
from lib.processes import BENCH

from mlx_server.workers.parent.environment import child_environment

SIDES = ("packed", "float32")
LLAMA_CPP = BENCH.parent / ".venv-llama-cpp" / "bin" / "python"
FORMS = ("q4_1", "q4_0")
PROMPT, READ = 16, 256
"""Tokens of the prompts before what is decoded, and of the prompt that is read."""


class Holder:
    """A process that holds the model one way: a command that speaks as `hold` does."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.loaded = self._told()

    def measure(self, prompts: list[list[int]], steps: int) -> dict[str, Any]:
        """Decode so many tokens after each prompt, or with no steps read the first."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([prompts, steps]) + "\n")
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
    decode(model, prompts_of(1), 2)
    memory = psutil.Process().memory_info().rss
    print(json.dumps({"weights": size, "process": memory, "peak": mx.get_peak_memory(), "notes": notes}), flush=True)
    for line in sys.stdin:
        prompts, steps = json.loads(line)
        told = decode(model, prompts, steps) if steps else read(model, prompts[0])
        print(json.dumps(told), flush=True)


def prompts_of(rows: int) -> list[list[int]]:
    """As many prompts, always the same."""
    rng = random.Random(0)
    return [[rng.randrange(100, 2000) for _ in range(PROMPT)] for _ in range(rows)]


def decode(model: Any, prompts: list[list[int]], steps: int) -> dict[str, Any]:
    """Tokens per second of the server's rows, and the tokens."""
    from mlx_lm.models.cache import make_prompt_cache

    from mlx_server.schemas.internal.generation import Limits, Sampling
    from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
    from mlx_server.workers.engine.sequence import Sequence

    batch = DecodeBatch(model, set())
    for number, prompt in enumerate(prompts):
        cache = make_prompt_cache(model)
        enter(model, prompt[:-1], cache)
        sequence = Sequence((number, 0), prompt, 1 << 30, Sampling(temperature=0.0), Limits(ignore_eos=True))
        batch.join([sequence], cache, {})
    tokens = []
    batch.step()
    began = perf_counter()
    for _ in range(steps):
        tokens += [produced.token for produced in batch.step()]
    return {"tokens_per_s": len(prompts) * steps / (perf_counter() - began), "tokens": tokens}


def read(model: Any, prompt: list[int]) -> dict[str, Any]:
    """Tokens per second of a prompt."""
    from mlx_lm.models.cache import make_prompt_cache

    began = perf_counter()
    enter(model, prompt, make_prompt_cache(model))
    return {"tokens_per_s": len(prompt) / (perf_counter() - began), "tokens": []}


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
    parser.add_argument("--llama-cpp", nargs="+", choices=FORMS, default=[], help="forms of llama.cpp's weights")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side is not None:
        hold(given.side, given.model)
        return
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch, ExitStack() as stack:
        holders = {
            side: stack.enter_context(closing(Holder(command, environment)))
            for side, command, environment in sides(given.model, given.llama_cpp, Path(scratch))
        }
        measure(holders, given)


def sides(model: Path, forms: list[str], scratch: Path) -> Iterator[tuple[str, list[str], dict[str, str] | None]]:
    """The sides' names, commands and environments (None: this process's own)."""
    for side in SIDES:
        yield side, [sys.executable, __file__, str(model), "--side", side], child_environment()
    from gguf_file import write_gguf

    for form in forms:
        write_gguf(model, form, scratch / f"{form}.gguf")
        script = str(Path(__file__).with_name("llama_side.py"))
        yield f"llama.cpp {form}", [str(LLAMA_CPP), script, str(scratch / f"{form}.gguf")], None


def measure(holders: dict[str, Holder], given: argparse.Namespace) -> None:
    """Take turns, and write what was found after each pair."""
    machine, memory = this_machine(), {side: holder.loaded for side, holder in holders.items()}
    others = [side for side in holders if side != "packed"]
    shares = {
        side: {what: memory["packed"][what] / memory[side][what] for what in ("weights", "process")} for side in others
    }
    print(shares, flush=True)
    results, rows = BENCH / "results" / f"{given.name}.json", list[dict[str, Any]]()
    for pair in range(given.pairs):
        for clients in (*map(int, given.clients.split(",")), 0):
            rows.append(measured(holders, pair, clients, given.steps))
            print(rows[-1], flush=True)
        found = {"model": given.model.name, "machine": asdict(machine), "summary": summed_up(rows), "shares": shares}
        results.write_text(json.dumps({**found, "memory": memory, "rows": rows}, indent=1) + "\n")
    print(json.dumps(summed_up(rows), indent=1))


def measured(holders: dict[str, Holder], pair: int, clients: int, steps: int) -> dict[str, Any]:
    """One pair: who goes first alternates."""
    told: dict[str, dict[str, Any]] = {}
    prompts = prompts_of(clients) if clients else [list(range(100, 100 + READ))]
    for side in list(holders)[:: -1 if pair % 2 else 1]:
        with OthersWatch() as others:
            told[side] = holders[side].measure(prompts, steps if clients else 0)
        told[side]["others_cores"] = others.cores
    tokens = {side: told[side].pop("tokens") for side in holders}
    own = told["packed"]["tokens_per_s"]
    ratios = {side: own / told[side]["tokens_per_s"] for side in holders if side != "packed"}
    equal = {side: mean(map(eq, tokens["packed"], tokens[side])) if clients else None for side in ratios}
    return {"pair": pair, "clients": clients, "ratio": ratios, "equal": equal, **told}


def summed_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios by the number of clients and the other side."""
    return {
        f"{count} clients" if count else "reading": {
            side: asdict(spread([row["ratio"][side] for row in rows if row["clients"] == count]))
            for side in rows[0]["ratio"]
        }
        for count in sorted({row["clients"] for row in rows})
    }


if __name__ == "__main__":
    main()
