"""How a small model is trained, whatever it learns, and how its progress is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 50
"""Steps between two lines of progress where there is no terminal; the loss shown is their mean."""

Report = Callable[[int, float], None]
"""Hears of each step, from 1, and its loss."""


@dataclass(frozen=True)
class Course:
    """So many steps, whose rate rises to the peak while they warm up and falls to a fiftieth of it in the end."""

    steps: int
    warm_up: int
    peak_rate: float

    def rate(self) -> Callable[[mx.array], mx.array]:
        """The rate of each step."""
        rise = optim.linear_schedule(0.0, self.peak_rate, self.warm_up)
        fall = optim.cosine_decay(self.peak_rate, max(self.steps - self.warm_up, 1), self.peak_rate / 50)
        return optim.join_schedules([rise, fall], [self.warm_up])


def train(
    model: nn.Module,
    loss: Callable[[Any, Any], mx.array],
    course: Course,
    batches: Iterator[Any],
    report: Report,
) -> None:
    """Train in place, together with the group's other processes."""
    optimizer = optim.AdamW(learning_rate=course.rate(), betas=[0.9, 0.98], weight_decay=0.02)
    loss_and_gradients = nn.value_and_grad(model, loss)
    for step in range(1, course.steps + 1):
        value, gradients = loss_and_gradients(model, next(batches))
        # Evaluated first: what is sent must not wait for the other process while this one still computes.
        mx.eval(value, gradients)
        gradients, _ = optim.clip_grad_norm(nn.average_gradients(gradients), 1.0)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        report(step, value.item())


@contextmanager
def reporting(console: Console, steps: int) -> Iterator[Report]:
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
