"""How long it takes to find which of many kept prompts begins like a new one.

`python bench/prefix_index.py [--entries 1000] [--tokens 30000] [--rounds 50]` writes results/prefix_index.json with
every raw row. A look-up includes the digests of the new prompt; the array of its tokens is there, made by the
tokenizer's thread of a worker. The cases: nothing in common; all entries share a system prompt of 1,000 tokens with the
new one and no more; the new prompt goes on from near the end of one entry. Each with entries that can be cut short, and
with ones that are of use only as a whole.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from lib.hardware import this_machine

from mlx_server.workers.engine.kvcache.prefix_index import Beginning, PrefixIndex, as_ids

SYSTEM_TOKENS = 1000
RESULTS = Path(__file__).parent / "results" / "prefix_index.json"


def tokens(rng: random.Random, count: int) -> list[int]:
    """Random token ids."""
    return [rng.randrange(50_000) for _ in range(count)]


def cases(rng: random.Random, entries: list[list[int]], length: int) -> dict[str, list[int]]:
    """One new prompt of each kind."""
    known = rng.choice(entries)
    return {
        "nothing in common": tokens(rng, length),
        "a system prompt in common": known[:SYSTEM_TOKENS] + tokens(rng, length - SYSTEM_TOKENS),
        "the next turn": known[: length - 500] + tokens(rng, 500),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    rng = random.Random(0)
    rows = []
    for whole in (False, True):
        index, system = PrefixIndex(), tokens(rng, SYSTEM_TOKENS)
        entries = [system + tokens(rng, given.tokens - SYSTEM_TOKENS) for _ in range(given.entries)]
        for number, entry in enumerate(entries):
            index.add(number, Beginning("", as_ids(entry), (), whole))
        for round_ in range(given.rounds):
            for case, prompt in cases(rng, entries, given.tokens).items():
                ids, began = as_ids(prompt), perf_counter()
                length, _ = index.longest(Beginning("", ids))
                took_ms = (perf_counter() - began) * 1000
                rows.append({"case": case, "whole": whole, "round": round_, "found": length, "ms": round(took_ms, 4)})
    summary = [
        {
            "case": case,
            "whole": whole,
            "median_ms": round(statistics.median(taken), 3),
            "greatest_ms": max(taken),
            "found": statistics.median(row["found"] for row in rows if (row["case"], row["whole"]) == (case, whole)),
        }
        for case, whole in dict.fromkeys((row["case"], row["whole"]) for row in rows)
        for taken in [[row["ms"] for row in rows if (row["case"], row["whole"]) == (case, whole)]]
    ]
    for line in summary:
        print(line)
    RESULTS.write_text(
        json.dumps({"machine": asdict(this_machine()), **vars(given), "summary": summary, "rows": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
