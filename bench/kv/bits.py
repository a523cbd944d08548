"""What KV states of few bits cost and save: `python bench/kv/bits.py [--pairs 5] [--words 0] [--needle 8000]`.

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
from lib.pairs import Side, interleave, spread
from lib.peer_servers import Peer, Running, ours
from lib.processes import BENCH
from lib.prompts import prompt_texts
from load import LoadSpec, measure
from rich.console import Console
from rich.table import Table
from run import demo_folder

RESULTS = BENCH / "results" / "kv_bits.json"
CLIENTS = 8
TOKENS = 64
REQUESTS = 8
LEAST_SPEED = 0.9
MOST_BYTES = 0.3


def ask(peer: Peer, pair: int, words: int) -> Side:
    """One timed repetition; each pair has questions of its own."""
    text = " ".join((BENCH.parent / "docs" / "api.md").read_text(encoding="utf-8").split()[:words])
    questions = prompt_texts(REQUESTS, pair * REQUESTS)
    prompts = [f"{number} {text}\n\n{question}" if words else question for number, question in enumerate(questions)]
    summary = measure(LoadSpec(peer.url, prompts, TOKENS, clients=CLIENTS)).summary
    return Side(summary.tokens, summary.tokens_per_s, asdict(summary))


def main() -> None:
    """Measure, print tables, keep the rows. The exit code is 2 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--needle", type=int, default=8000)
    given = parser.parse_args()
    console = Console(soft_wrap=True)
    folder = demo_folder([sys.executable, "-m", "mlx_server.app"])
    plain = ours(folder, CLIENTS, "--speculate", "off")
    few = ours(folder, CLIENTS, "--speculate", "off", "--kv-bits", "8")
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        with Running([plain, few], Path(scratch)) as running:
            wide, narrow = running.peers
            for peer in running.peers:
                ask(peer, given.pairs, given.words)  # warms up
            pairs = interleave(
                given.pairs,
                lambda pair: ask(wide, pair, given.words),
                lambda pair: ask(narrow, pair, given.words),
                lambda pair: console.print(f"{pair.ratio:.3f}"),
            )
        quality = Path(__file__).with_name("quality.py")
        command = [sys.executable, str(quality), str(folder), "--needle", str(given.needle)]
        found: dict[str, Any] = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        )
    speed = spread([pair.ratio for pair in pairs])
    console.print(f"tokens/s with 8 bits over float32: {speed.median:.3f} ({speed.low:.3f} to {speed.high:.3f})")
    shown = Table("bits", "bytes over float32", "perplexity", f"needles found at {given.needle} tokens", "their loss")
    for bits, one in found.items():
        share, needles = one["bytes"] / found["float32"]["bytes"], one["needles"]
        hits, losses = sum(each["found"] for each in needles), [each["loss"] for each in needles]
        loss = f"{sum(losses) / len(losses):.2f}" if losses else ""
        shown.add_row(bits, f"{share:.3f}", f"{one['perplexity']:.3f}", f"{hits} of {len(needles)}", loss)
    console.print(shown)
    raw = {"machine": asdict(this_machine()), "command": " ".join(["python", *sys.argv]), "speed": asdict(speed)}
    rows = {"pairs": [asdict(pair) for pair in pairs], "quality": found}
    RESULTS.write_text(json.dumps({**raw, **rows}, indent=1) + "\n")
    reached = speed.median >= LEAST_SPEED and found["8"]["bytes"] <= MOST_BYTES * found["float32"]["bytes"]
    raise SystemExit(0 if reached else 2)


if __name__ == "__main__":
    main()
