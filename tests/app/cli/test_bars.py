"""Bars on wide and narrow terminals."""

from __future__ import annotations

import io
from collections.abc import Callable

import anyio
import pytest
from rich.console import Console

from mlx_server.app.cli.console import StartDisplay
from mlx_server.app.connect.batches import BatchState, Counts
from mlx_server.app.terminal.batch_display import BatchDisplay
from mlx_server.app.terminal.download_display import PullDisplay
from mlx_server.schemas.internal.messages import Loading

NAME = "mlx-community/SmolLM2-135M-Instruct"
HALF = "━━"


def terminal(width: int) -> tuple[Console, Callable[[], str]]:
    """A terminal, and what it has been sent."""
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=True, color_system=None, _environ={}), file.getvalue


@pytest.mark.parametrize("width", [30, 40, 79, 80, 200])
def test_bar_of_a_download_fits(width: int) -> None:
    console, sent = terminal(width)
    with PullDisplay(console, NAME) as display:
        anyio.run(display.report, 0, 100_000_000)
        anyio.run(display.report, 50_000_000, 100_000_000)
    line = drawn(sent(), width)
    assert HALF in line
    assert "50%" in line
    assert ("50.0/100.0 MB" in line) == (width >= 80)
    assert sent().endswith("\x1b[2K"), "it leaves nothing behind"


@pytest.mark.parametrize("width", [40, 120])
def test_bar_of_a_start_fits(width: int) -> None:
    console, sent = terminal(width)
    display = StartDisplay(console, "http://localhost:8000")
    display.show_bar(NAME, Loading("loading weights", 50, 100))
    display.close()
    line = drawn(sent(), width)
    assert HALF in line
    assert "0:00:00" in line


@pytest.mark.parametrize("width", [40, 120])
def test_bar_of_a_batch_fits_and_leaves_nothing_behind(width: int) -> None:
    console, sent = terminal(width)
    with BatchDisplay(console) as display:
        display.show(BatchState("b", "in_progress", request_counts=Counts(100, 50)))
    line = drawn(sent(), width)
    assert HALF in line
    assert "50/100" in line
    assert sent().endswith("\x1b[2K")


def drawn(sent: str, width: int) -> str:
    """The last line that was drawn, behind which the terminal has room for ^C."""
    line = [part for part in sent.replace("\x1b[2K", "\n").replace("\r", "\n").split("\n") if "━" in part][-1]
    assert len(line) <= width - 2
    return line
