"""Trains the model, writes its folder and has its pictures judged. Started by `train.py`."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated

import mlx.core as mx
import typer
from drawing import autoencoder, flow
from drawing.card import Training, write_card
from drawing.folder import Parts, make_parts, write_folder
from drawing.measure import measure
from drawing.scenes import draw_scenes
from rich.console import Console
from shapes.course import Course, reporting, train
from shapes.draw import SIZE
from shapes.folder import make_tokenizer

SEED = 0
HELD_OUT_SEED = 999_999
WARM_UP = 50
PICTURE_BATCH = 8
PICTURE_RATE = 6e-3
SHARPENING_RATE = 1.5e-3
FLOW_BATCH = 32
FLOW_RATE = 1.5e-3
SMALL_STEPS = 1200
LARGE_STEPS = 200
FLOW_STEPS = 2000
PICTURES = 3000
"""Pictures that the transformer learns from."""


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path(__file__).parent / "model",
    small_steps: Annotated[int, typer.Option(min=1, help="Steps of the autoencoder, at half size.")] = SMALL_STEPS,
    large_steps: Annotated[int, typer.Option(min=1, help="Its steps at full size, after that.")] = LARGE_STEPS,
    flow_steps: Annotated[int, typer.Option(min=1, help="Steps of text encoder and transformer.")] = FLOW_STEPS,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures that those learn from.")] = PICTURES,
    held_out: Annotated[int, typer.Option(min=1, max=120, help="Prompts to judge the model by.")] = 100,
) -> None:
    """Train the tiny model that draws, on pictures that the project draws itself.

    Everything is drawn from fixed seeds. Ends with how often pictures of prompts that were never trained are right, as
    the model that sees shapes and the pixels say; the model card has it too, and the minutes that it took.
    """
    group = mx.distributed.init()
    mx.disable_compile()
    console = Console(quiet=group.rank() > 0)
    parts = make_parts(SEED)
    mx.random.seed(SEED + group.rank())
    began = time.monotonic()
    train_autoencoder(parts, small_steps, large_steps, console, group)
    parts = train_flow(parts, flow_steps, pictures, console, group)
    if group.rank() > 0:
        return
    minutes = (time.monotonic() - began) / 60
    write_folder(out, parts)
    console.print(f"{minutes:.1f} minutes. Drawing {held_out} prompts …")
    verdict = measure(out, held_out, HELD_OUT_SEED)
    write_card(out, Training(parts.parameters, small_steps, large_steps, flow_steps, minutes, held_out), verdict)
    console.print(verdict.table())
    console.print(f"Written to {out}")


def train_autoencoder(parts: Parts, small: int, large: int, console: Console, group: mx.distributed.Group) -> None:
    """First with pictures of half size, which take a quarter of the time, then with whole ones."""
    autoencoder.begin_simply(parts.vae)
    courses = {
        SIZE // 2: Course(small, WARM_UP, PICTURE_RATE),
        SIZE: Course(large, WARM_UP, SHARPENING_RATE),
    }
    for side, course in courses.items():
        console.print(f"The autoencoder, {side} by {side} pixels")
        scenes = draw_scenes(random.Random(side + group.rank()))
        batches = autoencoder.picture_batches(scenes, PICTURE_BATCH // group.size(), side)
        with reporting(console, course.steps) as report:
            train(parts.vae, autoencoder.loss, course, batches, report)


def train_flow(parts: Parts, steps: int, pictures: int, console: Console, group: mx.distributed.Group) -> Parts:
    """What finds the way from noise to a prompt's picture; the parts come back with what their latents measure."""
    console.print("The text encoder and the transformer")
    parts, latents = flow.make_latents(parts, flow.random_scenes(random.Random(SEED), pictures))
    rnd = random.Random(SEED + group.rank())
    batches = flow.make_batches(rnd, make_tokenizer(), latents, FLOW_BATCH // group.size())
    with reporting(console, steps) as report:
        train(flow.Denoiser(parts), flow.loss, Course(steps, WARM_UP, FLOW_RATE), batches, report)
    return parts


if __name__ == "__main__":
    typer.run(main)
