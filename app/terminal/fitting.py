"""Tables that can be read on a narrow terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def fitting(columns: Sequence[str], lines: Sequence[Sequence[str]], console: Console) -> Table:
    """As many of the columns, from the left, as stand whole on the terminal; all of them where there is none. The first
    one is folded where even that is too wide."""
    roomy = console.options.update(width=1_000_000)
    for count in range(len(columns), 0, -1):
        table = Table(box=SIMPLE)
        for column in columns[:count]:
            table.add_column(column, overflow="fold")
        for cells in lines:
            table.add_row(*map(escape, cells[:count]))
        if not console.is_terminal or table.__rich_measure__(console, roomy).maximum <= console.width:
            break
    return table
