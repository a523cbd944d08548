"""How the flags of `mlx-server launch` are written down, for its help and for docs/flags.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.models import OptionInfo

from mlx_server.app.cli.launch_flags import LaunchFlags
from mlx_server.app.cli.launch_options import ENV_PREFIX

ENDING = (
    f"Each flag is an environment variable too: --queue-size is {ENV_PREFIX}_QUEUE_SIZE. docs/flags.md names them all."
)


class Flag(NamedTuple):
    """An option of `launch`, as it is declared."""

    name: str
    kind: type
    default: Any
    info: OptionInfo

    @property
    def spellings(self) -> list[str]:
        """Its flag, of a switch both."""
        flag = self.name.replace("_", "-")
        return [f"--{flag}", f"--no-{flag}"] if self.kind is bool else [f"--{flag}"]

    @property
    def variables(self) -> list[str]:
        """The environment variables that are looked at; of several the first that is set counts."""
        named = self.info.envvar or f"{ENV_PREFIX}_{self.name.upper()}"
        return [named] if isinstance(named, str) else named

    @property
    def values(self) -> str:
        """What it may be, in a word or two."""
        info = self.info
        if self.kind is bool:
            return "on, off"
        if info.metavar:
            return alternatives(info.metavar.split("|"))
        if issubclass(self.kind, StrEnum):
            return alternatives(self.kind)
        if info.min is not None:
            return f"{info.min:,} or more" if info.max is None else f"{info.min:,} to {info.max:,.10g}"
        if self.kind is Path:
            return "folder" if info.dir_okay else "file"
        return "text"

    @property
    def preset(self) -> str:
        """What holds where nothing is given."""
        if isinstance(self.info.show_default, str):
            return self.info.show_default
        if self.kind is bool:
            return "on" if self.default else "off"
        if self.default is None:
            return "none"
        return f"`{self.default:g}`" if isinstance(self.default, float) else f"`{self.default}`"

    @property
    def panel(self) -> str:
        """The heading that it stands under."""
        return str(self.info.rich_help_panel)


def alternatives(words: Iterable[str]) -> str:
    """Any of these."""
    return " or ".join(f"`{word}`" for word in words)


def flags() -> Iterator[Flag]:
    """All of them, in the order of the help."""
    hints = get_type_hints(LaunchFlags, include_extras=True)
    for flag in fields(LaunchFlags):
        declared, info = get_args(hints[flag.name])
        yield Flag(flag.name, scalar(declared), flag.default, info)


def scalar(declared: Any) -> type:
    """The type of one value: of `list[str] | None` str."""
    if isinstance(declared, type) and not get_args(declared):
        return declared
    return scalar(get_args(declared)[0])


def print_flags(console: Console) -> None:
    """A panel for each heading, with a line or more for each flag."""
    for title, members in groupby(flags(), key=lambda flag: flag.panel):
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold cyan", no_wrap=True)
        for flag in members:
            table.add_row("\n".join(flag.spellings), described(flag))
        console.print(Panel(table, title=title, title_align="left", border_style="dim"))
    console.print(ENDING)


def described(flag: Flag) -> Text:
    """What a flag does, and in brackets what it may be and what it is if nobody says so."""
    facts = [] if flag.values in ("text", "on, off") else [flag.values]
    facts += [] if flag.preset == "none" else [f"default: {flag.preset}"]
    hint = f" ({'; '.join(facts).replace('`', '')})" if facts else ""
    return Text.assemble(str(flag.info.help), (hint, "dim"))
