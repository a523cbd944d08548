"""Writes docs/flags.md: what `mlx-server launch` can be told, as its own options say it. `make docs` runs it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.command_help import Flag, flags

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
    options.MOST_USED: "[The README](../README.md#recipes) has some of them at work.",
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


def row(flag: Flag) -> str:
    """Its line of the table."""
    spelling, variables = (", ".join(f"`{each}`" for each in named) for named in (flag.spellings, flag.variables))
    cells = (f"{spelling}<br>{variables}", flag.preset, flag.values, str(flag.info.help))
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """The whole."""
    lines = [INTRODUCTION]
    for panel, members in groupby(flags(), key=lambda flag: flag.panel):
        lines += [f"## {panel}", "", READ_ON[panel], ""]
        lines += ["| flag and variable | default | may be | what it does |", "| --- | --- | --- | --- |"]
        lines += [*map(row, members), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
