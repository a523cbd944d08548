"""What a person at the terminal sees of a batch."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from mlx_server.app.connect.batches import BatchState
from mlx_server.app.terminal.bars import bars
from mlx_server.app.terminal.fitting import fitting

COLUMNS = ("batch", "status", "done", "lines", "errors", "made", "endpoint", "tokens written")

PLAIN_STEP = 0.1
"""Without a terminal, it is told in tenths."""

PACE_S = 30.0
"""The pace is that of so many seconds."""

WAITS = {
    "hours": "waits for the hours of --batch-hours",
    "model": "waits for its model",
    "turn": "waits for its turn",
}
"""Why none of its lines runs."""


class BatchDisplay:
    """A bar of lines with tokens per second, the time that is left and errors; plain lines without a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        shown = (MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
        figures = (TextColumn("{task.fields[pace]:.0f} tokens/s"), TextColumn("{task.fields[failed]} errors"))
        self._progress = bars(console, after=shown, figures=figures, pace_s=PACE_S)
        self._task = self._progress.add_task("", total=None, pace=0.0, failed=0)
        self._seen: deque[tuple[float, int]] = deque()
        self._told = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, batch: BatchState) -> None:
        """The batch as it is now."""
        counts = batch.request_counts
        pace = self._pace(batch.usage.output_tokens if batch.usage else 0)
        self._progress.update(
            self._task,
            description=state_of(batch).replace("_", " "),
            total=counts.total or None,
            completed=counts.ended,
            pace=pace,
            failed=counts.failed,
        )
        if not self._console.is_terminal:
            step = int(counts.ended / counts.total / PLAIN_STEP) if counts.total else 0
            if self._told != (told := f"{state_of(batch)} {step}"):
                self._told = told
                self._console.print(line_of(batch, pace), markup=False, highlight=False, soft_wrap=True)

    def _pace(self, tokens: int) -> float:
        """Tokens per second lately."""
        now = time.monotonic()
        self._seen.append((now, tokens))
        while now - self._seen[0][0] > PACE_S:
            self._seen.popleft()
        begun, before = self._seen[0]
        return (tokens - before) / (now - begun) if now > begun else 0.0


def state_of(batch: BatchState) -> str:
    """What it is doing."""
    return WAITS.get(batch.waiting_for or "", batch.status)


def line_of(batch: BatchState, pace: float | None = None) -> str:
    """A batch in a line."""
    counts = batch.request_counts
    rate = "" if pace is None else f", {pace:.0f} tokens/s"
    return f"{batch.id}: {state_of(batch)}, {counts.ended} of {counts.total} lines, {counts.failed} errors{rate}"


def table_of(batches: list[BatchState], console: Console) -> Table:
    """A line for each."""
    lines = []
    for batch in batches:
        counts, made = batch.request_counts, time.localtime(batch.created_at)
        cells = (
            batch.id,
            state_of(batch),
            str(counts.ended),
            str(counts.total),
            str(counts.failed),
            time.strftime("%Y-%m-%d %H:%M", made),
            batch.endpoint,
            str(batch.usage.output_tokens if batch.usage else 0),
        )
        lines.append(cells)
    return fitting(COLUMNS, lines, console)
