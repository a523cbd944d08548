"""What a person at the terminal sees of a download."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import DownloadColumn, TaskProgressColumn, TimeRemainingColumn, TransferSpeedColumn

from mlx_server.app.machine.sizes import size
from mlx_server.app.terminal.bars import bars

PLAIN_STEP = 0.25
"""Without a terminal, it is told in quarters."""


class PullDisplay:
    """A bar with its pace and what is left on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._reported = -1.0
        shown = (TaskProgressColumn(), TimeRemainingColumn())
        self._progress = bars(console, after=shown, figures=(DownloadColumn(), TransferSpeedColumn()))
        self._task = self._progress.add_task(name, total=None)
        self._begun: int | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    async def report(self, done: int, total: int) -> None:
        """So many bytes of all are here."""
        if self._begun is None:
            # What was there before counts as done, but not for the pace.
            self._begun = done
            self._progress.reset(self._task, total=total, completed=done)
        self._progress.update(self._task, completed=done, total=total)
        share = done / total if total else 1.0
        if not self._console.is_terminal and (
            share >= self._reported + PLAIN_STEP or (share == 1.0 and self._reported < 1.0)
        ):
            self._reported = share
            line = f"{self._name}: {size(done)} of {size(total)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
