"""What drawing step by step costs, and what HTTP adds: `python bench/media/drawing.py [--pairs 5]`.

Three sides draw the same pictures from the same seeds, in turns; who is first changes from round to round: mlx-vlm's
own loop over all steps, the engine's jobs (both here, in a worker's environment, with the same weights in float32), and
the server over HTTP. A first round warms up and is not counted. Ratios are pictures per second over mlx-vlm's, taken
within a round, and once more between each side's fastest rounds: others' work on the machine only ever slows one down.
Raw rows go to bench/results/drawing.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.inside import become_a_worker
from lib.others import OthersWatch
from lib.pairs import spread
from lib.processes import BENCH, ServerProcess

RESULTS = BENCH / "results" / "drawing.json"
MODEL = BENCH.parent / "tests" / "drawing" / "model"
PROMPT = "a red circle at the top left"
STEPS = 9
CASES = ((64, 1), (64, 4), (256, 1), (256, 4))
"""Sides in pixels, and how many pictures a request asks for."""

Draw = Callable[[int, int, int], None]
"""Draws so many pictures of so many pixels to a side, from a seed on."""


def library(folder: Path) -> Draw:
    """mlx-vlm's loop. It knows one seed for all pictures of a call."""
    import mlx.core as mx
    from mlx_vlm.generate.image import generate_image, load_image_generation_model

    model: Any = load_image_generation_model(str(folder), evict_text_encoder=False)
    model.pipeline._ensure_components()
    for part in (model.pipeline.text_encoder, model.pipeline.transformer, model.pipeline.vae):
        part.set_dtype(mx.float32)

    def draw(side: int, count: int, seed: int) -> None:
        generate_image(model, PROMPT, seed=seed, steps=STEPS, width=side, height=side, num_images=count)

    return draw


def engine(folder: Path) -> Draw:
    """Our jobs, to the pixels."""
    from mlx_server.workers.engine.draw.job import DrawingJob
    from mlx_server.workers.engine.draw.loading import load
    from mlx_server.workers.engine.draw.wish import Wish

    family = load(folder, "auto", lambda _: None).family

    def draw(side: int, count: int, seed: int) -> None:
        job = DrawingJob(family, Wish(PROMPT, tuple(range(seed, seed + count)), side, side, STEPS, 0.0))
        while job.advance() is not None:
            pass

    return draw


def server(url: str) -> Draw:
    """The server, to the last byte of its answer."""
    client = httpx.Client(timeout=600)

    def draw(side: int, count: int, seed: int) -> None:
        body = {"prompt": PROMPT, "n": count, "size": f"{side}x{side}", "steps": STEPS, "seed": seed}
        client.post(f"{url}/images/generations", json=body).raise_for_status()

    return draw


def measure(draw: Draw, side: int, count: int, requests: int, seed: int) -> dict[str, float]:
    """Pictures per second, and what others took of the machine meanwhile, in cores."""
    with OthersWatch() as others:
        began = perf_counter()
        for number in range(requests):
            draw(side, count, seed + number * count)
        seconds = perf_counter() - began
    return {"pictures_per_s": requests * count / seconds, "others_cores": others.cores}


def run(sides: dict[str, Draw], pairs: int, requests: int) -> list[dict[str, Any]]:
    """A row for each side, case and counted round."""
    rows = []
    for number in range(pairs + 1):
        names = list(sides)
        turn = number % len(names)
        for side, count in CASES:
            for name in names[turn:] + names[:turn]:
                found = measure(sides[name], side, count, requests, 1000 * number)
                if number:
                    rows.append({"round": number, "pixels": side, "n": count, "side": name, **found})
                    print(rows[-1], flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The spread of each side's pictures per second over mlx-vlm's by case, and the ratio of the `fastest` rounds."""
    found = {}
    for side, count in CASES:
        of_case = [row for row in rows if (row["pixels"], row["n"]) == (side, count)]
        rates = {(row["round"], row["side"]): row["pictures_per_s"] for row in of_case}
        for name in sorted({row["side"] for row in of_case} - {"mlx-vlm"}):
            ratios = [rates[number, name] / rates[number, "mlx-vlm"] for number, one in rates if one == name]
            most = {one: max(rates[number, who] for number, who in rates if who == one) for one in (name, "mlx-vlm")}
            fastest = most[name] / most["mlx-vlm"]
            found[f"{name}, {count} of {side}x{side}"] = {**asdict(spread(ratios)), "fastest": fastest}
    return found


def main() -> None:
    """Go on in the environment of a worker, with its BLAS."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--pairs", type=int, default=5, help="counted rounds")
    parser.add_argument("--requests", type=int, default=4, help="requests of each side in a round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the rows go")
    given = parser.parse_args()
    become_a_worker()
    from mlx_server.workers.engine.runtime import platform

    platform.configure()
    command = [sys.executable, "-m", "mlx_server.app", "launch", "--model-path", str(given.model)]
    with (
        tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch,
        ServerProcess(command, Path(scratch) / "server.log") as ours,
    ):
        sides = {"mlx-vlm": library(given.model), "engine": engine(given.model), "server": server(ours.url)}
        rows = run(sides, given.pairs, given.requests)
    found = summary(rows)
    for name, ratio in found.items():
        print(
            f"{name}: {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}), fastest {ratio['fastest']:.2f}"
        )
    facts = {"machine": asdict(this_machine()), "steps": STEPS, "requests": given.requests, "ratios": found}
    given.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
