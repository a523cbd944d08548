"""What KV states of few bits cost and save: `python bench/kv/bits.py [--only speed|quality] [--pairs 5]`.

Speed: two servers of SmolLM2, one with `--kv-bits 8`, in turns, with 8 clients that ask for 64 tokens each, greedy and
without guesses. `--words` puts so many words of this repository's texts before each question. What is held and what is
lost: `quality.py`, which runs in a worker's environment. Raw rows go to bench/results/kv_bits.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.pairs import Pair, Side, interleave, spread
from lib.peer_servers import ours
from lib.processes import BENCH, ServerProcess
from lib.prompts import prompt_texts
from load import LoadSpec, measure
from quality import FULL, VARIANTS
from rich.console import Console
from rich.table import Table
from run import demo_folder

RESULTS = BENCH / "results" / "kv_bits.json"
CLIENTS = 8
TOKENS = 64
REQUESTS = 8
LEAST_SPEED = 0.9
MOST_BYTES = 0.3


def ask(server: ServerProcess, pair: int, words: int) -> Side:
    """One timed repetition; each pair has questions of its own."""
    text = " ".join((BENCH.parent / "docs" / "api.md").read_text(encoding="utf-8").split()[:words])
    questions = prompt_texts(REQUESTS, pair * REQUESTS)
    prompts = [f"{number} {text}\n\n{question}" if words else question for number, question in enumerate(questions)]
    _, before = server.cpu_seconds()
    summary = measure(LoadSpec(server.url, prompts, TOKENS, clients=CLIENTS)).summary
    _, after = server.cpu_seconds()
    return Side(summary.tokens, summary.tokens_per_s, {**asdict(summary), "worker_cpu_s": after - before})


def speed(folder: Path, given: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Pairs of both servers, and whether the ratio is reached."""
    words = ours(folder, CLIENTS, "--speculate", "off").words
    with (
        tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch,
        ServerProcess(words, Path(scratch, "float32.log")) as wide,
        ServerProcess([*words, "--kv-bits", "8"], Path(scratch, "8.log")) as narrow,
    ):
        for server in (wide, narrow):
            ask(server, given.pairs, given.words)  # warms up
        pairs = interleave(
            given.pairs,
            lambda pair: ask(wide, pair, given.words),
            lambda pair: ask(narrow, pair, given.words),
            lambda pair: console.print(f"{pair.ratio:.3f}, in processor time {processor_ratio(pair):.3f}"),
        )
    ratios = {"tokens/s": [one.ratio for one in pairs], "processor time": [processor_ratio(one) for one in pairs]}
    for name, values in ratios.items():
        ratio = spread(values)
        console.print(f"8 bits over float32 by {name}: {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
    return {"command": command_line(), "ratios": ratios, "rows": [asdict(pair) for pair in pairs]}, spread(
        ratios["tokens/s"]
    ).median >= LEAST_SPEED


def processor_ratio(pair: Pair) -> float:
    """Tokens per second of the workers' processor time, over the baseline's: what others take does not count."""
    server, baseline = ((one.tokens / one.detail["worker_cpu_s"]) for one in (pair.server, pair.baseline))
    return server / baseline


def quality(folder: Path, given: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """What `quality.py` says by bits, and whether 8 bits are as few bytes as is asked."""
    script = Path(__file__).with_name("quality.py")
    command = [sys.executable, str(script), str(folder), "--needle", str(given.needle), "--bits", *given.bits]
    shown = Table("bits", "bytes of a token", "perplexity", f"told again at {given.needle} tokens", "loss of that")
    found: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            one = json.loads(line)
            console.print(one)
            found[one["bits"]] = {"command": command_line(), **one}
            hits, losses = [each["found"] for each in one["needles"]], [each["loss"] for each in one["needles"]]
            loss = f"{sum(losses) / len(losses):.3f}" if losses else ""
            shown.add_row(
                one["bits"], f"{one['bytes']:.0f}", f"{one['perplexity']:.3f}", f"{sum(hits)} of {len(hits)}", loss
            )
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    console.print(shown)
    size = {bits: one["bytes"] for bits, one in found.items()}
    return found, "8" not in size or FULL not in size or size["8"] <= MOST_BYTES * size[FULL]


def command_line() -> str:
    """How this was called."""
    return " ".join(["python", *sys.argv])


PARTS = {"speed": speed, "quality": quality}


def main() -> None:
    """Measure, print tables, keep the rows of each part. The exit code is 2 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--needle", type=int, default=8000)
    parser.add_argument("--bits", nargs="+", default=VARIANTS)
    given = parser.parse_args()
    folder = demo_folder([sys.executable, "-m", "mlx_server.app"])
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    reached = True
    for name, part in PARTS.items():
        if given.only in (None, name):
            found, well = part(folder, given, Console(soft_wrap=True))
            reached = reached and well
            kept[name] = {**kept.get(name, {}), **found, "machine": asdict(this_machine())}
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    raise SystemExit(0 if reached else 2)


if __name__ == "__main__":
    main()
