"""Trains the model, writes its folder and measures it. Started by `train.py`."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import typer
from mlx.utils import tree_flatten
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from shapes.batches import make_batches
from shapes.card import Training, write_card
from shapes.folder import make_config, make_model, make_tokenizer, write_folder
from shapes.forward import loss
from shapes.oracle import measure

SEED = 0
HELD_OUT_SEED = 999_999
STEPS = 2800
WARM_UP = 200
BATCH = 32
PEAK_RATE = 1.5e-3
LINE_EVERY = 50
"""Steps between two lines of progress where there is no terminal; the loss shown is their mean."""


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
        train(model, steps, make_batches(random.Random(SEED + group.rank()), tokenizer, BATCH // group.size()), report)
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


def train(model: nn.Module, steps: int, batches: Iterator[Any], report: Callable[[int, float], None]) -> None:
    """Train in place, together with the group's other processes; `report` hears of each step and its loss."""
    rate = optim.cosine_decay(PEAK_RATE, max(steps - WARM_UP, 1), PEAK_RATE / 50)
    schedule = optim.join_schedules([optim.linear_schedule(0.0, PEAK_RATE, WARM_UP), rate], [WARM_UP])
    optimizer = optim.AdamW(learning_rate=schedule, betas=[0.9, 0.98], weight_decay=0.02)
    loss_and_gradients = nn.value_and_grad(model, loss)
    for step in range(1, steps + 1):
        value, gradients = loss_and_gradients(model, next(batches))
        # Evaluated first: what is sent must not wait for the other process while this one still computes.
        mx.eval(value, gradients)
        gradients, _ = optim.clip_grad_norm(nn.average_gradients(gradients), 1.0)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        report(step, value.item())


@contextmanager
def reporting(console: Console, steps: int) -> Iterator[Callable[[int, float], None]]:
    """Shows the progress of training: a bar on a terminal, otherwise a line now and then."""
    recent: deque[float] = deque(maxlen=LINE_EVERY)
    if not console.is_terminal:

        def line(step: int, value: float) -> None:
            recent.append(value)
            if step % LINE_EVERY == 0 or step in (1, steps):
                console.print(f"step {step} of {steps}, loss {fmean(recent):.3f}")

        yield line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("training", total=steps, loss=float("nan"))

        def move(step: int, value: float) -> None:
            recent.append(value)
            progress.update(task, completed=step, loss=fmean(recent))

        yield move


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
