"""Whether anything grows in hours of use: `python bench/faults/soak.py --minutes 30`.

A real server with six models (dense, sliding-window, recurrent, one that sees, and two that take turns in one place) is
asked all that clients do. Resident memory, descriptors and asyncio's tasks of the front end and of each worker are
sampled; after a warm-up of a fifth of the time (ten minutes at most) a line is laid through each. It says the slope
with its 95 % interval. Rows go to bench/results/soak.json. Exit code 0 if no memory surely grows by more than
NOISE_MB a minute, descriptors and tasks are what they were at rest before, and no request ended badly, else 2.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from asking import DISHONEST, HUNG, WRONG
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from mixed_load import RECURRENT, SIGHTED, SLIDING, SWITCHED, TEXT, MixedLoad
from rich.console import Console
from rich.table import Table
from run import demo_folder, leave, tiny_folder
from slope import Slope, slope_of
from world import INJECT

RESULTS = BENCH / "results" / "soak.json"
TESTS = BENCH.parent / "tests"
CLIENTS = 4
KEPT_MB = 32
"""Of prompts, for each model: so much is full before the samples count."""

NOISE_MB = 0.5
WARM_UP, LONGEST_WARM_UP_S = 0.2, 600.0
SAMPLES = 360
"""About so many in all, but at most two a second."""

RESTS_S = 8.0
"""The time in which connections and processes of ended requests go."""

MAKE = """
import sys
from pathlib import Path
from support.tiny.models import make_model
for folder, architecture in zip(sys.argv[1::2], sys.argv[2::2]):
    Path(folder).mkdir()
    make_model(Path(folder), architecture, max_position_embeddings=4096)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment: seconds since the start, resident MB, descriptors, asyncio's tasks."""

    seconds: float
    megabytes: float
    descriptors: int
    tasks: int


class Watch:
    """Samples a server's front end and workers, each life of a worker by itself."""

    def __init__(self, server: ServerProcess, told: Path) -> None:
        self._server = server
        self._told = told
        self._began = time.monotonic()
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def look(self) -> dict[str, Sample]:
        """Sample all processes now. Blocks for a moment."""
        found = {}
        for name, pid in self._pids().items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                megabytes = process.memory_info().rss / (1 << 20)
                found[name] = Sample(self.seconds, round(megabytes, 2), process.num_fds(), self._tasks(process))
                self.samples[name].append(found[name])
        return found

    def _pids(self) -> dict[str, int]:
        with urllib.request.urlopen(self._server.url.removesuffix("v1") + "v1/manager/status", timeout=30) as answer:
            loaded = json.load(answer)["loaded_models"]
        workers = {f"{name} {pid}": int(pid) for name, held in loaded.items() for pid in held["pids"]}
        return {"front end": self._server.pid, **workers}

    def _tasks(self, process: psutil.Process) -> int:
        """As it says itself, when asked; the answer to the last question will do."""
        told = self._told / str(process.pid)
        process.send_signal(signal.SIGUSR2)
        return int(told.read_text()) if told.exists() else 0


async def soak(
    server: ServerProcess, told: Path, seconds: float, console: Console
) -> tuple[Watch, MixedLoad, list[str]]:
    """The samples, the requests, and what did not go back to what it was."""
    warm_up_s = min(WARM_UP * seconds, LONGEST_WARM_UP_S)
    watch, load = Watch(server, told), MixedLoad(server.url.removesuffix("/v1"))
    await asyncio.gather(load.run(CLIENTS, seconds / 20), later(warm_up_s, load.stop))
    await asyncio.gather(*(load.everything() for _ in range(CLIENTS)))
    before = await at_rest(watch)
    warm = watch.seconds
    load = MixedLoad(server.url.removesuffix("/v1"), seed=1)
    asking = asyncio.create_task(load.run(CLIENTS, seconds / 20))
    watch.samples.clear()
    while watch.seconds < warm + seconds - warm_up_s:
        await asyncio.to_thread(watch.look)
        console.print(f"{watch.seconds:.0f} of {seconds:.0f} s: {load.ends.total()} requests", end="\r")
        await asyncio.sleep(max(0.5, seconds / SAMPLES))
    load.stop()
    await asking
    after = await at_rest(watch, keep=False)
    return watch, load, grown(before, after)


async def later(seconds: float, call: Any) -> None:
    await asyncio.sleep(seconds)
    call()


async def at_rest(watch: Watch, *, keep: bool = True) -> dict[str, Sample]:
    """The processes once nothing is asked; a first look has them say how many tasks they have."""
    await asyncio.sleep(RESTS_S)
    kept = {name: list(each) for name, each in watch.samples.items()}
    await asyncio.to_thread(watch.look)
    await asyncio.sleep(1)
    found = await asyncio.to_thread(watch.look)
    if not keep:
        watch.samples.clear()
        watch.samples.update(kept)
    return found


def grown(before: dict[str, Sample], after: dict[str, Sample]) -> list[str]:
    """Which processes have more descriptors or tasks at rest than before."""
    return [
        f"{name}: {getattr(before[name], what)} {what} before, {getattr(after[name], what)} after"
        for name in before.keys() & after.keys()
        for what in ("descriptors", "tasks")
        if getattr(after[name], what) > getattr(before[name], what)
    ]


def configuration(scratch: Path) -> Path:
    """The models, and a file that names them: all but two are pinned."""
    text = tiny_folder(demo_folder([sys.executable, "-m", "mlx_server.app"]), scratch / TEXT)
    made = {scratch / SLIDING: "gemma3_text", scratch / RECURRENT: "mamba"}
    arguments = [str(each) for pair in made.items() for each in pair]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    subprocess.run([sys.executable, "-c", MAKE, *arguments], env=env, check=True)
    pinned = {TEXT: text, **{folder.name: folder for folder in made}, SIGHTED: TESTS / "shapes" / "model"}
    lines = [f"[server]\nmax_models = {len(pinned) + 1}"]
    lines += [f'[models.{name}]\npath = "{path}"\npinned = true' for name, path in pinned.items()]
    lines += [f'[models.{name}]\npath = "{text}"' for name in SWITCHED]
    file = scratch / "models.toml"
    file.write_text("\n".join(lines))
    return file


def table(slopes: dict[str, Slope]) -> Table:
    drawn = Table("process", "MB from", "to", "MB a minute", "95 % interval")
    for name, one in slopes.items():
        interval = f"{one.low:+.3f} to {one.high:+.3f}"
        drawn.add_row(name, f"{one.first:.1f}", f"{one.last:.1f}", f"{one.per_minute:+.3f}", interval)
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix="mlx-server-soak-") as folder:
        scratch = Path(folder)
        told = scratch / "tasks"
        told.mkdir()
        env = ["env", f"PYTHONPATH={INJECT}", f"SOAK_TASKS={told}"]
        launch = [sys.executable, "-m", "mlx_server.app", "launch", f"--config={configuration(scratch)}"]
        kept = [f"--prefix-cache-mb={KEPT_MB}", *(f"--{name}-dir={scratch / name}" for name in ("data", "cache"))]
        with ServerProcess([*env, *launch, *kept], scratch / "server.log") as server:
            watch, load, more = asyncio.run(soak(server, told, given.minutes * 60, console))
    found = {
        name: slope_of([one.seconds for one in each], [one.megabytes for one in each])
        for name, each in watch.samples.items()
    }
    slopes = {name: one for name, one in found.items() if one is not None and len(watch.samples[name]) > SAMPLES / 10}
    console.print(table(slopes))
    console.print(dict(load.ends), more)
    bad = [end for end in load.ends if end.partition(": ")[2] in (WRONG, DISHONEST, HUNG)]
    growing = [name for name, one in slopes.items() if one.grows(NOISE_MB)]
    result = {
        "machine": this_machine().line(),
        "minutes": given.minutes,
        "ends": dict(load.ends),
        "slopes": {name: asdict(one) for name, one in slopes.items()},
        "growing": growing,
        "more_at_rest": more,
        "samples": {name: [list(asdict(one).values()) for one in each] for name, each in watch.samples.items()},
    }
    given.out.write_text(json.dumps(result) + "\n")
    return 2 if bad or growing or more else 0


if __name__ == "__main__":
    sys.exit(main())
