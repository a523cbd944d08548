"""Bars that move and fit the terminal."""

from __future__ import annotations

import os

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

STILL = ("dumb", "unknown")
"""Terminals that can't go back to what they have written."""

BAR_WIDTH = 40
ROOMY = 80
"""From so many columns on, figures stand beside a bar's name and share."""
ECHO = len("^C")
"""Columns that stay free where lines are drawn anew: what the terminal says of Ctrl-C would wrap behind a full line,
and another one than the last be taken away.
"""


class NameColumn(ProgressColumn):
    """What a bar tells of, cut where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        """Part of rich."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


def narrower(options: ConsoleOptions) -> ConsoleOptions:
    """For what is drawn anew while the terminal may say ^C behind it."""
    return options.update(width=max(1, options.max_width - ECHO), height=None)


class Narrower:
    """Something drawn so."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._whole, narrower(options))


class Bars(Progress):
    """Bars behind which there is room for what the terminal says of Ctrl-C."""

    def get_renderable(self) -> RenderableType:
        """Part of rich."""
        return Narrower(super().get_renderable())


def bar_console() -> Console:
    """Where bars are drawn. A terminal that they can't move on is none: it is told in lines, as a file is."""
    return Console(stderr=True, force_terminal=False if os.environ.get("TERM") in STILL else None)


def bars(
    console: Console,
    before: tuple[ProgressColumn, ...] = (),
    after: tuple[ProgressColumn, ...] = (),
    figures: tuple[ProgressColumn, ...] = (),
    pace_s: float = 30.0,
) -> Progress:
    """Bars with columns before and after each; `figures` follow where there is room. They leave nothing behind, and
    are never drawn where the console is no terminal. `pace_s`: the pace is that of so many seconds."""
    bar = BarColumn(bar_width=None, table_column=Column(max_width=BAR_WIDTH))
    more = figures if console.width >= ROOMY else ()
    return Bars(
        *before,
        NameColumn(),
        bar,
        *after,
        *more,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=pace_s,
    )
