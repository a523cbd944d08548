"""Faults, each done to a real server under 8 clients: `make bench-faults`, or `python bench/faults/run.py`.

    --only SIGKILL,SIGSTOP     these faults (a part of a name is enough)
    --kills 100                worker kills at random moments, instead, or after those that --only names
    --leave 1000               clients that leave at random moments, instead
    --overload 60              twenty times the capacity, for so many seconds, instead; --only scripted,SmolLM2,tiny
    --fuzz 10000 --seed 1      bodies that are nearly valid, instead
    --recovery 7 --against DIR restarts and switches with a standby, without one, and of another checkout, instead

The model is the tiny llama; answers are greedy, and those that end well must equal what was said undisturbed. Rows go
to bench/results/faults.json, each part in its own place. Exit code 0 if nothing hung, was wrong or dishonest, leaked,
or missed its target, else 2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from asking import DISHONEST, ERROR, HUNG, OK, WRONG, Row
from client_faults import CLIENT_FAULTS
from disappearing import disappear
from fuzz import fuzz
from kills import kill_at_random
from lib.hardware import this_machine
from lib.processes import BENCH
from overload import overload
from recovery import recover
from rich.console import Console
from rich.table import Column, Table
from run import demo_folder, leave, tiny_folder
from worker_faults import FAULTS, Fault, small_disk
from world import CLIENTS, MODEL, NEIGHBOUR, Load, World

RESULTS = BENCH / "results" / "faults.json"
BEFORE, AFTER = 8, 8
"""So many answers end well before a fault is done, and after it."""


@dataclass
class Result:
    """What became of one fault. `silent_s`: the longest time in which no answer ended well."""

    fault: str
    outcomes: dict[str, int] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    neighbour: dict[str, int] = field(default_factory=dict)
    replayed: int = 0
    restarts: int = 0
    silent_s: float = 0.0
    leaked: dict[str, int] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def line(self) -> str:
        """What a person reads while it runs."""
        told = "good" if self.good else f"NOT GOOD: {self.outcomes}, beside {self.beside}, leaked {self.leaked}"
        return f"{self.fault}: {told}; neighbour {self.neighbour}; {self.details}"

    @property
    def good(self) -> bool:
        bad = any(self.outcomes.get(kind) or kind in self.beside for kind in (WRONG, DISHONEST, HUNG))
        return not bad and set(self.neighbour) <= {OK} and not self.leaked


async def inflict(world: World, name: str, fault: Fault, seed: int) -> Result:
    """One fault, under load."""
    result = Result(name)
    await world.settle()
    before, standing = figures(world), await asyncio.to_thread(world.standing)
    async with Load(world, seed) as load:
        await load.until_ok(BEFORE)
        beside = await fault(world, load)
        await world.answers()
        await load.until_ok(AFTER)
    after = figures(world)
    result.rows = load.rows
    ends = sorted(row.started_s + row.took_s for row in load.rows if (row.model, row.outcome) == (MODEL, OK))
    result.silent_s = round(max(later - earlier for earlier, later in pairwise(ends)), 3)
    result.outcomes, result.neighbour = dict(load.outcomes()), dict(load.outcomes(NEIGHBOUR))
    result.beside = [row.outcome for row in beside]
    result.details = sorted({f"{row.status} {row.detail}" for row in [*load.rows, *beside] if row.outcome != OK})
    result.replayed, result.restarts = (after[key] - before[key] for key in ("replayed", "worker_restarts"))
    result.leaked = await asyncio.to_thread(world.leaked, standing)
    return result


def figures(world: World) -> dict[str, int]:
    found: dict[str, int] = world.get("/v1/queue/stats")["models"][MODEL]
    return found


def run_faults(world: World, only: list[str], *, full_disk: bool, console: Console) -> list[Result]:
    """Each fault on the same server."""
    results = []
    for number, (name, fault) in enumerate({**FAULTS, **CLIENT_FAULTS}.items()):
        if only and not any(part in name for part in only):
            continue
        if name == "full disk" and not full_disk:
            console.print("full disk: left out, a file system can't be mounted here")
            continue
        results.append(asyncio.run(inflict(world, name, fault, number)))
        console.print(results[-1].line(), highlight=False)
    return results


def table(results: list[Result]) -> Table:
    columns = ("fault", "well", "error", "replayed", "hung", "wrong", "dishonest", "beside", "longest silence", "leaks")
    drawn = Table(
        *(Column(name, no_wrap=True) for name in columns),
        title=f"{CLIENTS} clients, and one of a neighbour that must notice nothing",
    )
    for one in results:
        counts = [str(one.outcomes.get(kind, 0)) for kind in (OK, ERROR)]
        bad = [str(one.outcomes.get(kind, 0)) for kind in (HUNG, WRONG, DISHONEST)]
        leaks = ", ".join(f"{count} {name}" for name, count in one.leaked.items()) or "none"
        beside = ", ".join(sorted(set(one.beside))) or "-"
        drawn.add_row(one.fault, *counts, str(one.replayed), *bad, beside, f"{one.silent_s:.2f} s", leaks)
    return drawn


def save(out: Path, part: str, rows: Any) -> None:
    """Put a part of the results in its place."""
    kept = json.loads(out.read_text()) if out.is_file() else {}
    kept[part] = {"machine": this_machine().line(), "command": " ".join(sys.argv[1:]), "rows": rows}
    out.write_text(json.dumps(kept, indent=1) + "\n")


@contextlib.contextmanager
def prepared() -> Iterator[tuple[Path, Path]]:
    """The model's folder and one for everything else."""
    with tempfile.TemporaryDirectory(prefix="mlx-server-faults-") as scratch:
        yield tiny_folder(real_folder(), Path(scratch, "tiny")), Path(scratch)


def real_folder() -> Path:
    """SmolLM2's folder."""
    return demo_folder([sys.executable, "-m", "mlx_server.app"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of the names of faults, separated by commas")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--leave", type=int, default=0)
    parser.add_argument("--overload", type=float, default=0.0)
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recovery", type=int, default=0)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    console = Console(width=160)
    with prepared() as (model, scratch):
        if given.recovery:
            rows, good = recover(model, scratch, given.recovery, given.against, console)
            save(given.out, "recovery", rows)
        elif given.overload:
            rows, good = overload(model, real_folder(), scratch, given.overload, console, given.only)
            save(given.out, "overload", rows)
        elif given.fuzz:
            rows, good = fuzz(model, scratch, given.fuzz, given.seed, console)
            save(given.out, "fuzz", rows)
        elif given.leave:
            rows, good = disappear(model, scratch, given.leave, console)
            save(given.out, "leave", rows)
        else:
            (scratch / "disk").mkdir()
            good = True
            with small_disk(scratch / "disk") as mounted, World(model, scratch) as world:
                if given.only or not given.kills:
                    only = [part for part in given.only.split(",") if part]
                    results = run_faults(world, only, full_disk=mounted, console=console)
                    console.print(table(results))
                    kept = [{**asdict(one), "rows": [row.short() for row in one.rows]} for one in results]
                    save(given.out, "faults", kept)
                    good = all(one.good for one in results)
                if given.kills:
                    rows, well = asyncio.run(kill_at_random(world, given.kills, console))
                    save(given.out, "kills", rows)
                    good = good and well
    return 0 if good else 2


if __name__ == "__main__":
    sys.exit(main())
