"""How the commands help and refuse: in words, which say what was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

from mlx_server.app.cli.command_help import print_flags, print_head, print_help, usage

MEANT = {
    **dict.fromkeys(("download", "install", "get"), "mlx-server pull ID"),
    "ls": "mlx-server list",
    **dict.fromkeys(("remove", "delete"), "mlx-server rm NAME"),
    "info": "mlx-server show NAME",
    **dict.fromkeys(("serve", "start", "server"), "mlx-server launch MODEL"),
    **dict.fromkeys(("chat", "generate"), "mlx-server run MODEL"),
    "status": "mlx-server ps",
    **dict.fromkeys(("watch", "monitor"), "mlx-server top"),
    **dict.fromkeys(("stop", "quit", "kill"), "Ctrl-C, or mlx-server service remove"),
    "help": "mlx-server --help",
    "version": "mlx-server --version",
}
"""What people ask for who know other programs, and what it is here."""

FIRST = ("run", "launch", "pull", "list", "ps", "top")
"""What the help names before all else."""

PYDANTIC = "Value error, "
"""How typer's messages about enumerations begin."""


class Commands(TyperGroup):
    """Names the command that was meant where there is none of that name, and the most used ones first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Called by typer."""
        return sorted(super().list_commands(ctx), key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Called by typer."""
        if args and args[0] in MEANT and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {args[0]!r}. Use: {MEANT[args[0]]}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Called by typer, whose own tables tell Python's types and cut names."""
        print_help(self, ctx)


class Command(TyperCommand):
    """Names the variables that an option is read from, and not Python's list of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called by typer."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PYDANTIC)
            option = error.param
            if option is not None and error.param_hint is None and isinstance(option.envvar, list):
                error.param_hint = f"'{option.opts[0]}' (env var: {' or '.join(option.envvar)})"
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Called by typer, whose own tables tell Python's types and cut names."""
        print_help(self, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Called by typer."""
        return usage(self.params)


class App(typer.Typer):
    """A group of commands that help and refuse as these do."""

    def __init__(self, **more: Any) -> None:
        super().__init__(cls=Commands, no_args_is_help=True, **more)

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **more: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Called by whoever adds a command."""
        return super().command(name, cls=cls, **more)


class Launch(Command):
    """Takes a word without a flag for a model, as --model-path says it. Extra arguments have to be allowed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called by typer."""
        rest = super().parse_args(ctx, args)
        given = ctx.get_parameter_source("model_path")
        if ctx.args and (given is None or given.name != "COMMANDLINE"):
            ctx.params["model_path"] = ctx.args.pop(0)
        if ctx.args:
            ctx.fail(f"Got an unexpected argument, {ctx.args[0]!r}. More models have a flag: --model {ctx.args[0]}")
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Called by typer; so many flags need panels."""
        console = Console()
        print_head(console, self, ctx)
        print_flags(console)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Called by typer."""
        return [*super().collect_usage_pieces(ctx), "[MODEL]"]
