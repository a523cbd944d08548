"""Whether anything grows in hours of use: `python bench/faults/soak.py --minutes 30`.

A real server with six models (dense, sliding-window, recurrent, one that sees, and two that take turns in one place) is
asked all that clients do. Resident memory, descriptors and asyncio's tasks of the front end and of each worker are
sampled; after a warm-up, in which the prompts that each model keeps become as many as it may keep, a line is laid
through each. It says the slope with its 95 % interval. Rows go to bench/results/soak.json. Exit code 0 if no memory
surely grows by more than NOISE_MB a minute, no kept prompts still grew, descriptors and tasks are what they were at
rest before, and no request ended badly, else 2.
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
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from asking import DISHONEST, HUNG, WRONG
from lib.hardware import this_machine
from lib.processes import BENCH, ServerProcess
from mixed_load import RECURRENT, SIGHTED, SLIDING, SWITCHED, TEXT, MixedLoad
from rich.console import Console
from rich.table import Table
from run import demo_folder, leave, tiny_folder
from slope import Slope, slope_of
from watch import Sample, Watch
from world import INJECT

RESULTS = BENCH / "results" / "soak.json"
TESTS = BENCH.parent / "tests"
CLIENTS = 4
KEPT_MB = 4
"""Of prompts, for each model: so much is full before the samples count."""

FULL, GROWN = 0.9, 0.02
"""Of that. Prompts still fill what they may take while they take less and have grown by more in LOOK of the time."""

NOISE_MB = 0.5
WARM_UP, LONGEST_WARM_UP, LOOK = 0.2, 0.5, 1 / 30
"""Shares of the time."""

SAMPLES = 360
"""About so many in all, but at most two a second."""

RESTS_S = 8.0
"""The time in which connections and processes of ended requests go, unless the machine is busy."""

LOOKS, AGAIN_S = 16, 2.0
"""At whether they have gone, and the time before each: what leaked is there at the last one, too."""

MAKE = """
import sys
from pathlib import Path
from support.tiny.models import make_model
for folder, architecture in zip(sys.argv[1::2], sys.argv[2::2]):
    Path(folder).mkdir()
    make_model(Path(folder), architecture, max_position_embeddings=4096)
"""


@dataclass(frozen=True, slots=True)
class Soaked:
    """The samples, the requests, what did not go back to what it was, and whose kept prompts still grew."""

    watch: Watch
    load: MixedLoad
    more: list[str]
    filling: list[str]


async def soak(server: ServerProcess, told: Path, seconds: float, console: Console) -> Soaked:
    """The warm-up, then what counts, for `seconds` together."""
    watch, load = Watch(server, told), MixedLoad(server.url.removesuffix("/v1"))
    asking = asyncio.create_task(load.run(CLIENTS, seconds / 20))
    filling = await warm_up(watch, seconds)
    warm_up_s = watch.seconds
    load.stop()
    await asking
    await asyncio.gather(*(load.everything() for _ in range(CLIENTS)))
    before = await at_rest(watch, RESTS_S)
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
    for _ in range(LOOKS):
        if not (more := grown(before, await at_rest(watch, AGAIN_S, keep=False))):
            break
    return Soaked(watch, load, more, filling)


async def warm_up(watch: Watch, seconds: float) -> list[str]:
    """Until no kept prompts grow any more, within its bounds; returns whose did at its end."""
    kept = await asyncio.to_thread(watch.kept_mb)
    while True:
        await asyncio.sleep(LOOK * seconds)
        before, kept = kept, await asyncio.to_thread(watch.kept_mb)
        filling = still_filling(before, kept)
        if watch.seconds >= (LONGEST_WARM_UP if filling else WARM_UP) * seconds:
            return filling


def still_filling(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Whose prompts took more MB than before, and may take more."""
    return [
        name for name, now in after.items() if now < FULL * KEPT_MB and now - before.get(name, 0.0) > GROWN * KEPT_MB
    ]


async def at_rest(watch: Watch, rests_s: float, *, keep: bool = True) -> dict[str, Sample]:
    """The processes once nothing is asked; a first look has them say how many tasks they have."""
    await asyncio.sleep(rests_s)
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
            soaked = asyncio.run(soak(server, told, given.minutes * 60, console))
    watch, load, more = soaked.watch, soaked.load, soaked.more
    found = {
        name: slope_of([one.seconds for one in each], [one.megabytes for one in each])
        for name, each in watch.samples.items()
    }
    slopes = {name: one for name, one in found.items() if one is not None and len(watch.samples[name]) > SAMPLES / 10}
    console.print(table(slopes))
    console.print(dict(load.ends), more, soaked.filling)
    bad = [end for end in load.ends if end.partition(": ")[2] in (WRONG, DISHONEST, HUNG)]
    growing = [name for name, one in slopes.items() if one.grows(NOISE_MB)]
    result = {
        "machine": this_machine().line(),
        "minutes": given.minutes,
        "ends": dict(load.ends),
        "slopes": {name: asdict(one) for name, one in slopes.items()},
        "growing": growing,
        "more_at_rest": more,
        "still_filling": soaked.filling,
        "samples": {name: [list(asdict(one).values()) for one in each] for name, each in watch.samples.items()},
    }
    given.out.write_text(json.dumps(result) + "\n")
    return 2 if bad or growing or more or soaked.filling else 0


if __name__ == "__main__":
    sys.exit(main())
