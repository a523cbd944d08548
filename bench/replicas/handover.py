"""What it takes to write on where another replica has read: `python bench/replicas/handover.py [--prompts 4]`.

SmolLM2. One server reads prompts and leaves their KV states in a folder (`--prompt-cache-dir`); another, started then
with the same folder, is asked for a token after each of them, in turns with a prompt of the same length that nobody has
read. The medians of both times, for each length, and what the states take on disk. The folder is a local one, and still
in the system's memory: a network would add the time that its bytes take there. Raw rows go to
bench/results/handover.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.peer_servers import ours
from lib.processes import BENCH, ServerProcess
from lib.prompts import prompt_texts
from rich.console import Console
from run import demo_folder

RESULTS = BENCH / "results" / "handover.json"
SENTENCES = (8, 32, 64)
"""Of a prompt: some 250, 930 and 1,860 tokens."""


def prompts(count: int) -> Iterator[tuple[int, str, str]]:
    """Sentences of a prompt, one that is read ahead, and one of the same length that is not: `count` of each length."""
    first = 0
    for sentences in SENTENCES:
        for _ in range(count):
            said = prompt_texts(first + 2 * sentences)[first:]
            first += 2 * sentences
            yield sentences, " ".join(said[:sentences]), " ".join(said[sentences:])


def ask(server: ServerProcess, prompt: str) -> dict[str, Any]:
    """Have a token written after a prompt: seconds, and the tokens of the prompt, all and those known."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 1, "temperature": 0}
    request = urllib.request.Request(
        f"{server.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began = perf_counter()
    with urllib.request.urlopen(request) as response:
        usage = json.load(response)["usage"]
    return {
        "s": perf_counter() - began,
        "tokens": usage["prompt_tokens"],
        "known": usage["prompt_tokens_details"]["cached_tokens"],
    }


def figures(rows: list[dict[str, Any]], bytes_per_token: float) -> list[dict[str, Any]]:
    """For each length: tokens, seconds, and of what both come to."""
    found = []
    for sentences in SENTENCES:
        own = [row for row in rows if row["sentences"] == sentences]
        tokens = median(row["taken_over"]["tokens"] for row in own)
        read_s, taken_over_s = (median(row[way]["s"] for row in own) for way in ("read", "taken_over"))
        found.append(
            {
                "tokens": tokens,
                "known": median(row["taken_over"]["known"] for row in own),
                "read_s": read_s,
                "taken_over_s": taken_over_s,
                "ratio": median(row["taken_over"]["s"] / row["read"]["s"] for row in own),
                "over_1_gbit_s": tokens * bytes_per_token * 8 / 1e9,
            }
        )
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=4, help="of each length")
    given, console, machine = parser.parse_args(), Console(), this_machine()
    model, asked = demo_folder([sys.executable, "-m", "mlx_server.app"]), list(prompts(given.prompts))
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as folder:
        scratch = Path(folder)
        command = ours(model, 1, "--prompt-cache-dir", str(scratch / "kept"), "--speculate", "off")
        with ServerProcess(command.words, scratch / "reads.log") as server:
            tokens = sum(ask(server, known)["tokens"] for _, known, _ in asked)
        kept = sum(path.stat().st_size for path in (scratch / "kept").rglob("*.safetensors"))
        with ServerProcess(command.words, scratch / "writes.log") as server:
            ask(server, "Hello.")  # warms up
            rows = [
                {"sentences": sentences, "read": ask(server, unknown), "taken_over": ask(server, known)}
                for sentences, known, unknown in asked
            ]
    found = {"machine": asdict(machine), "bytes_per_token": kept / tokens, "lengths": figures(rows, kept / tokens)}
    console.print_json(data=found)
    RESULTS.write_text(json.dumps({**found, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
