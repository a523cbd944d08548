"""How the command line refuses: in words that say what was meant."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

MODELS = {
    "pull": "pull ID",
    "download": "pull ID",
    "install": "pull ID",
    "list": "list",
    "ls": "list",
    "rm": "rm NAME",
    "remove": "rm NAME",
    "delete": "rm NAME",
    "show": "show NAME",
    "search": "search WORDS",
}
MEANT = {
    **{name: f"mlx-server models {what}" for name, what in MODELS.items()},
    **dict.fromkeys(("run", "serve", "start", "server"), "mlx-server launch --model-path MODEL"),
    **dict.fromkeys(("chat", "generate"), "mlx-server launch --model-path MODEL, and any client of OpenAI's API"),
}
"""What people ask for who know other programs, and what it is here."""

PYDANTIC = "Value error, "
"""How typer's messages about enumerations begin."""


class Commands(TyperGroup):
    """Names the command that was meant where there is none of that name."""

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
    """Says what was meant by a word that stands without a flag. Extra arguments have to be allowed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called by typer."""
        rest = super().parse_args(ctx, args)
        if ctx.args:
            ctx.fail(f"Got an unexpected argument, {ctx.args[0]!r}. A model has a flag: --model-path {ctx.args[0]}")
        return rest
