"""Writes docs/flags.md: what `mlx-server launch` can be told, as its own options say it. `make docs` runs it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from typer.models import OptionInfo

from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.cli import launch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "flags.md"
INTRODUCTION = """\
# Flags

What `mlx-server launch` can be told. This page is made of its `--help` by `make docs`; a test keeps the two alike.

Each flag is an environment variable too; a flag that is given wins. Flags that may be repeated have their values
separated by spaces there, and switches take `true` or `false`.
[A configuration file](management.md#which-models-there-are) says the same for each model.

The command ends with code 0 when it was told to stop, 2 for a wrong flag, 3 if the model can't be served, 4 if the
address is taken.
"""
READ_ON = {
    options.MODELS: "[management.md](management.md) says when models are loaded and unloaded.",
    options.ADDRESS: "[management.md](management.md#who-may-do-what) says who may do what.",
    options.QUEUE: "[api.md](api.md#long-waits) says what a client sees of a long wait.",
    options.PROMPTS: "`make run` sets `--default-max-tokens 512` for its demo model."
    " [api.md](api.md#chat-templates) has more about chat templates.",
    options.KV_STATES: "Prompts that begin alike are read once: [api.md](api.md#kept-prompts).",
    options.COMPUTING: "[install.md](install.md) says what a machine needs to be quick.",
    options.COMPANIONS: "How requests ask for them: [api.md](api.md#adapters-and-drafts).",
    options.MEDIA: "Formats and limits: [media.md](media.md).",
    options.FILES: "What is kept where, and how to remove it: [install.md](install.md#removing-it).",
}
"""Where each panel's reader goes from there."""


class Flag(NamedTuple):
    """An option of `launch`, as it is declared."""

    name: str
    kind: type
    default: Any
    info: OptionInfo

    @property
    def spelling(self) -> str:
        """Its flag, of a switch both."""
        flag = self.name.replace("_", "-")
        return f"`--{flag}`, `--no-{flag}`" if self.kind is bool else f"`--{flag}`"

    @property
    def variables(self) -> str:
        """The environment variables that are looked at; of several the first that is set counts."""
        named = self.info.envvar or f"{options.ENV_PREFIX}_{self.name.upper()}"
        return ", ".join(f"`{variable}`" for variable in ([named] if isinstance(named, str) else named))

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
    def row(self) -> str:
        """Its line of the table."""
        cells = (f"{self.spelling}<br>{self.variables}", self.preset, self.values, str(self.info.help))
        return f"| {' | '.join(cells)} |"


def alternatives(words: Iterable[str]) -> str:
    """Any of these."""
    return " or ".join(f"`{word}`" for word in words)


def flags() -> Iterator[Flag]:
    """All of them, in their order."""
    hints = get_type_hints(launch, include_extras=True)
    for name, parameter in inspect.signature(launch).parameters.items():
        declared, *more = get_args(hints[name]) or (None,)
        if more and isinstance(more[0], OptionInfo):
            yield Flag(name, scalar(declared), parameter.default, more[0])


def scalar(declared: Any) -> type:
    """The type of one value: of `list[str] | None` str."""
    if isinstance(declared, type) and not get_args(declared):
        return declared
    return scalar(get_args(declared)[0])


def page() -> str:
    """The whole."""
    lines = [INTRODUCTION]
    for panel, members in groupby(flags(), key=lambda flag: str(flag.info.rich_help_panel)):
        lines += [f"## {panel}", "", READ_ON[panel], ""]
        lines += ["| flag and variable | default | may be | what it does |", "| --- | --- | --- | --- |"]
        lines += [*(flag.row for flag in members), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
