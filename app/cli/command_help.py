"""The help of the commands, in words and with no name cut off; of `mlx-server launch` for docs/flags.md too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument
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
            return "folder" if not info.file_okay else "file" if not info.dir_okay else "path"
        return "text"

    @property
    def preset(self) -> str:
        """What holds where nothing is given."""
        if isinstance(self.info.show_default, str):
            return self.info.show_default
        if self.kind is bool:
            return "on" if self.default else "off"
        if self.default in (None, ""):
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


def print_panel(console: Console, title: str, rows: Iterable[tuple[str, Text]]) -> None:
    """A box of names, none of which is cut, and what they mean; nothing where there is none."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    for name, text in rows:
        table.add_row(Text(name), text)
    if table.row_count:
        console.print(Panel(table, title=title, title_align="left", border_style="dim"))


def print_flags(console: Console) -> None:
    """A panel for each heading, with a line or more for each flag."""
    for title, members in groupby(flags(), key=lambda flag: flag.panel):
        print_panel(console, title, (("\n".join(flag.spellings), described(flag)) for flag in members))
    console.print(ENDING)


def described(flag: Flag, more: Iterable[str] = ()) -> Text:
    """What a flag does, and in brackets what it may be, what it is if nobody says so, and `more`."""
    facts = [] if flag.values in ("text", "on, off") else [flag.values]
    facts += [] if flag.preset == "none" else [f"default: {flag.preset}"]
    facts += more
    hint = f" ({'; '.join(facts).replace('`', '')})" if facts else ""
    return Text.assemble(str(flag.info.help), (hint, "dim"))


def print_help(command: Any, context: Any) -> None:
    """All of a command, or of a group of commands, as typer has made it."""
    console = Console()
    print_head(console, command, context)
    parameters = command.get_params(context)
    arguments = [one for one in parameters if isinstance(one, TyperArgument)]
    options = [one for one in parameters if not isinstance(one, TyperArgument)]
    print_panel(console, "Arguments", map(row_of, arguments))
    print_panel(console, "Options", map(row_of, options))
    names = command.list_commands(context) if hasattr(command, "list_commands") else ()
    members = [(name, command.get_command(context, name)) for name in names]
    print_panel(console, "Commands", [(name, Text(paragraphs(one.help)[0])) for name, one in members])


def print_head(console: Console, command: Any, context: Any) -> None:
    """How a command is called, and what it is for."""
    for text in (command.get_usage(context), *paragraphs(command.help)):
        console.print(text, end="\n\n", markup=False, highlight=False)


def argument_name(argument: TyperArgument) -> str:
    """What an argument is called: its metavar, else its name."""
    return argument.metavar or str(argument.name).upper()


def usage(parameters: Sequence[Any]) -> list[str]:
    """The words after a command's name: of arguments in brackets those that may be left out."""
    words = ["[OPTIONS]"]
    for one in parameters:
        if isinstance(one, TyperArgument):
            name = argument_name(one) if one.required else f"[{argument_name(one)}]"
            words.append(name if one.nargs == 1 else f"{name}...")
    return words


def row_of(parameter: Any) -> tuple[str, Text]:
    """What a parameter is called, and what it does."""
    declared = parameter.type_descriptor
    flag = Flag(parameter.name, scalar(declared.annotation), parameter.default, declared.parameter_info)
    spellings = (parameter.opts, parameter.secondary_opts)
    # Their order is that of a set where the option is typer's own.
    names = [", ".join(sorted(words, key=len, reverse=True)) for words in spellings]
    if isinstance(parameter, TyperArgument):
        names = [argument_name(parameter)]
    more = ["required"] if parameter.required else []
    more += [f"variable: {parameter.envvar}"] if parameter.envvar else []
    is_switch = flag.kind is bool and not parameter.secondary_opts
    return "\n".join(filter(None, names)), Text(str(parameter.help)) if is_switch else described(flag, more)


def paragraphs(text: str) -> list[str]:
    """Of a help, each in one line."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
