"""What it costs at load to look for what of a model's files nobody reads.

`python bench/load_check.py MODEL [--pairs 7]` writes results/load_check.json with every raw row. Both sides load the
model as a worker does, each time in a process of its own, in turns; one of them with the check switched off. Beside
the time to ready stand the CPU time of the process, which others' work changes less, and the seconds in the check
itself. The exit code is 2 where the median of the ratios is above 1.03.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from lib.hardware import this_machine
from lib.inside import become_a_worker

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "load_check.json"
MOST = 1.03
SIDES = ("with", "without")


class Stopwatch:
    """Seconds spent in the functions that it wraps."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def around(self, function: Callable[..., list[str]]) -> Callable[..., list[str]]:
        """The same function, timed."""

        def timed(*arguments: Any) -> list[str]:
            began = perf_counter()
            found = function(*arguments)
            self.spent_s += perf_counter() - began
            return found

        return timed


def nothing(*arguments: Any) -> list[str]:
    """A check that looks at nothing."""
    return []


def load(folder: str, side: str) -> dict[str, float]:
    """Seconds from the beginning of the process's own work to ready, of the CPU, and in the check."""
    began, worked, check = perf_counter(), process_time(), Stopwatch()
    from mlx_server.schemas.internal.messages import Load
    from mlx_server.workers.engine.loading import loading
    from mlx_server.workers.handlers import writing
    from mlx_server.workers.handlers.lm import LanguageHandler

    for module, name in ((loading, "note"), (writing, "generation_notes"), (writing, "tokenizer_notes")):
        setattr(module, name, check.around(getattr(module, name)) if side == "with" else nothing)
    handler = LanguageHandler()
    handler.load(Load(folder, "lm", 8, 512, "/dev/null/nowhere"), lambda report: None)
    found = {"s": perf_counter() - began, "cpu_s": process_time() - worked, "check_s": check.spent_s}
    handler.close()
    return found


def measured(folder: str, side: str) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, folder, "--side", side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios by pair, and the seconds in the check."""
    found: dict[str, Any] = {}
    for what in ("s", "cpu_s"):
        by_pair: dict[int, dict[str, float]] = {}
        for row in rows:
            by_pair.setdefault(row["pair"], {})[row["side"]] = row[what]
        ratios = [pair["with"] / pair["without"] for pair in by_pair.values()]
        found[what] = {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}
    found["check_s"] = {"median": statistics.median(row["check_s"] for row in rows if row["side"] == "with")}
    return found


def main() -> None:
    """Entry point. The exit code is 2 where loading takes too long with the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    become_a_worker()
    if asked.side:
        print(json.dumps(load(asked.model, asked.side)))
        return
    machine = this_machine()
    for side in SIDES:
        measured(asked.model, side)
    rows = []
    for pair in range(asked.pairs):
        for side in SIDES if pair % 2 else reversed(SIDES):
            rows.append({"pair": pair, "side": side, **measured(asked.model, side)})
            print(rows[-1], flush=True)
    found = summary(rows)
    command = f"python bench/load_check.py {Path(asked.model).name} --pairs {asked.pairs}"
    facts = {"command": command, "machine": asdict(machine), "model": Path(asked.model).name, "most": MOST}
    facts |= {"summary": found, "rows": rows}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(found))
    raise SystemExit(0 if found["s"]["median"] <= MOST else 2)


if __name__ == "__main__":
    main()
