"""Trains the model, writes its folder and measures it. Started by `train.py`."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated

import mlx.core as mx
import typer
from mlx.utils import tree_flatten
from rich.console import Console
from rich.table import Table
from shapes.batches import make_batches
from shapes.card import Training, write_card
from shapes.course import Course, reporting, train
from shapes.folder import make_config, make_model, make_tokenizer, write_folder
from shapes.forward import loss
from shapes.oracle import measure

SEED = 0
HELD_OUT_SEED = 999_999
STEPS = 2800
WARM_UP = 200
BATCH = 32
PEAK_RATE = 1.5e-3


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path(__file__).parent / "model",
    steps: Annotated[int, typer.Option(min=1, help=f"Steps, each of {BATCH} conversations about pictures.")] = STEPS,
    held_out: Annotated[int, typer.Option(min=1, help="Fresh questions of each kind to measure the model with.")] = 200,
) -> None:
    """Train the tiny vision-language model of the tests on pictures that it draws itself.

    Everything is drawn from fixed seeds. Ends with a table of how often the model is right about fresh pictures, asked
    through mlx-vlm; the model card has it too, and the minutes that it took.
    """
    group = mx.distributed.init()
    mx.disable_compile()
    console = Console(quiet=group.rank() > 0)
    tokenizer = make_tokenizer()
    config = make_config(tokenizer)
    model = make_model(config, SEED)
    began = time.monotonic()
    with reporting(console, steps) as report:
        batches = make_batches(random.Random(SEED + group.rank()), tokenizer, BATCH // group.size())
        train(model, loss, Course(steps, WARM_UP, PEAK_RATE), batches, report)
    if group.rank() > 0:
        return
    minutes = (time.monotonic() - began) / 60
    write_folder(out, model, config, tokenizer)
    console.print(f"{minutes:.1f} minutes. Asking {held_out} fresh questions of each kind …")
    accuracy = measure(out, held_out, HELD_OUT_SEED)
    parameters = sum(array.size for _, array in tree_flatten(model.parameters()))
    write_card(out, Training(parameters, steps, BATCH, minutes, held_out), accuracy)
    console.print(table(accuracy))
    console.print(f"Written to {out}")


def table(accuracy: dict[str, float]) -> Table:
    """The accuracies, for people."""
    shown = Table("question", "exactly right")
    for kind, share in accuracy.items():
        shown.add_row(kind, f"{share:.1%}")
    shown.add_section()
    shown.add_row("all", f"{sum(accuracy.values()) / len(accuracy):.1%}")
    return shown


if __name__ == "__main__":
    typer.run(main)
