"""What NVIDIA's own program tells of its cards, where it is installed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from mlx_server.app.machine.commands import output_of

FIELDS = ("name", "memory.total", "memory.used", "utilization.gpu")


@dataclass(frozen=True)
class Card:
    """A card; sizes in MB, None where it does not say."""

    name: str
    memory_total_mb: float | None
    memory_used_mb: float | None
    utilization_percent: float | None


def cards() -> list[Card]:
    """The machine's cards. Blocks."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = f"--query-gpu={','.join(FIELDS)}"
    return parse_cards(output_of(program, query, "--format=csv,noheader,nounits") or "")


def parse_cards(text: str) -> list[Card]:
    """One card on each line; what it can't tell is `[N/A]`."""
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    return [Card(row[0], *map(_number, row[1:])) for row in rows if len(row) == len(FIELDS)]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
