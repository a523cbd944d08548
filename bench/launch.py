"""From the command line to the first answer, beside mlx_lm.server: `python bench/launch.py [--pairs 5]`.

SmolLM2 and the tiny llama. Both servers are started in turns, with the same BLAS, and asked for one token as soon as
they listen; each starts once before the clock does, so that files are in memory and this server has tried the model.
Its first start, with nothing kept, is reported beside. A busy machine gives many processes little each, so processor
time stands beside wall time. Peak memory is that of the process with the model, over the weights as it holds them.

Targets: wall time at most 1.2 of mlx_lm.server's; peak memory at most 1.15 of the weights and 200 MB. Raw rows go to
bench/results/launch.json. Exit code 0 when all targets were met, else 2.
"""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.first_answer import FirstAnswer, first_answer
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.pairs import spread
from lib.peer_servers import Command, others, ours, with_blas
from run import demo_folder, tiny_folder

RESULTS = Path(__file__).parent / "results" / "launch.json"
MOST_RATIO = 1.2
WEIGHTS_SHARE = 1.15
BESIDE_BYTES = 200_000_000
SIDES = ("mlx-server", "mlx_lm.server")


def started(command: Command, side: str, scratch: Path) -> dict[str, Any]:
    """One start, with how busy others kept the machine."""
    words = command.words if side == SIDES[0] else with_blas(command.words)
    with OthersWatch() as watch:
        answer: FirstAnswer = first_answer(words, command.model or "any", scratch / f"{side}.log")
    return {"side": side, **asdict(answer), "others_cores": watch.cores}


def weights_bytes(folder: Path) -> int:
    """The size of the weights as they are held: both models are stored in float32, which a CPU computes in."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def measured(name: str, folder: Path, pairs: int, scratch: Path) -> dict[str, Any]:
    """The rows of one model, and what they say."""
    here = ours(folder, 8, "--cache-dir", str(scratch / f"cache-{name}"))
    commands = dict(zip(SIDES, (here, others(folder)[0]), strict=True))
    first = started(here, SIDES[0], scratch)
    started(commands[SIDES[1]], SIDES[1], scratch)
    rows: list[dict[str, Any]] = []
    for pair in range(pairs):
        for side in SIDES if pair % 2 else reversed(SIDES):
            rows.append({"pair": pair, **started(commands[side], side, scratch)})
            print(name, json.dumps(rows[-1]), flush=True)
    taken = {side: [row for row in rows if row["side"] == side] for side in SIDES}
    compared = list(zip(taken[SIDES[0]], taken[SIDES[1]], strict=True))
    ratios = {
        what: asdict(spread([mine[what] / theirs[what] for mine, theirs in compared]))
        for what in ("s", "cpu_s", "worker_cpu_s")
    }
    peak, weights = max(row["peak_bytes"] for row in taken[SIDES[0]]), weights_bytes(folder)
    return {
        "weights_bytes": weights,
        "peak_bytes": peak,
        "peak_limit_bytes": int(WEIGHTS_SHARE * weights + BESIDE_BYTES),
        "ratios": ratios,
        "first_start": first,
        "rows": rows,
    }


def main() -> int:
    """Measure both models, and say whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("tiny", "smollm2"), help="one model alone; nothing is written")
    asked = parser.parse_args()
    machine = this_machine()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        smollm2 = demo_folder([sys.executable, "-m", "mlx_server.app"])
        folders = {"tiny": tiny_folder(smollm2, scratch / "tiny-llama"), "smollm2": smollm2}
        models = {
            name: measured(name, folder, asked.pairs, scratch)
            for name, folder in folders.items()
            if asked.only in (None, name)
        }
    for name, found in models.items():
        print(name, json.dumps({key: found[key] for key in ("ratios", "peak_bytes", "peak_limit_bytes")}))
    if asked.only is None:
        command = shlex.join(["python", "bench/launch.py", "--pairs", str(asked.pairs)])
        facts = {"command": command, "machine": asdict(machine), "most_ratio": MOST_RATIO, "models": models}
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    met = all(
        found["ratios"]["s"]["median"] <= MOST_RATIO and found["peak_bytes"] <= found["peak_limit_bytes"]
        for found in models.values()
    )
    return 0 if met else 2


if __name__ == "__main__":
    sys.exit(main())
