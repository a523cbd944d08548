"""How the command line refuses: in words that say what was meant."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from mlx_server.app.cli.launch_help import print_flags

MEANT = {
    **dict.fromkeys(("download", "install", "get"), "mlx-server pull ID"),
    "ls": "mlx-server list",
    **dict.fromkeys(("remove", "delete"), "mlx-server rm NAME"),
    "info": "mlx-server show NAME",
    **dict.fromkeys(("serve", "start", "server"), "mlx-server launch MODEL"),
    **dict.fromkeys(("chat", "generate"), "mlx-server run MODEL"),
    "status": "mlx-server ps",
    **dict.fromkeys(("watch", "monitor"), "mlx-server top"),
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


class Launch(Command):
    """Takes a word without a flag for a model. Extra arguments have to be allowed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called by typer."""
        rest = super().parse_args(ctx, args)
        if ctx.args and ctx.params.get("model_path") is None:
            ctx.params["model_path"] = ctx.args.pop(0)
        if ctx.args:
            ctx.fail(f"Got an unexpected argument, {ctx.args[0]!r}. More models have a flag: --model {ctx.args[0]}")
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Called by typer, whose own tables are too narrow for so many flags."""
        console = Console()
        console.print(self.get_usage(ctx), f"\n{self.help}\n", markup=False, highlight=False, sep="\n")
        print_flags(console)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Called by typer."""
        return [*super().collect_usage_pieces(ctx), "[MODEL]"]
