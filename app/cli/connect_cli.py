"""`mlx-server connect`: other programs' configuration for a running server."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_server.app.cli.ps_cli import DEFAULT_URL, EXIT_SERVER, ApiKey, Url

if TYPE_CHECKING:
    from mlx_server.app.connect.clients import Client, Setup
    from mlx_server.app.connect.target import Target

EXIT_FILE = 1


def connect(
    client: Annotated[str, typer.Argument(help="The program, such as codex or claude-code; `list` shows all.")],
    url: Url = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="The model to use; without it the one that is loaded.")] = None,
    api_key: ApiKey = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the program's files, after the changes were shown.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --write: don't ask.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the server.", min=0.1, max=600)] = 10.0,
) -> None:
    """Print what a coding agent or chat program needs to use a running server, or write it into its files.

    Example: mlx-server connect codex --write
    """
    from mlx_server.app.connect.clients import CLIENTS
    from mlx_server.app.connect.files import FileProblem
    from mlx_server.app.connect.running_server import ServerProblem
    from mlx_server.app.connect.target import find_target

    if client == "list":
        typer.echo("\n".join(f"{one.name:15} {one.title}" for one in CLIENTS.values()))
        return
    if client not in CLIENTS:
        raise typer.BadParameter(f"{client!r} is none of {', '.join(CLIENTS)}.", param_hint="CLIENT")
    try:
        target = find_target(url, model, api_key, timeout)
    except ServerProblem as problem:
        typer.echo(f"mlx-server: {problem}", err=True)
        raise typer.Exit(EXIT_SERVER) from None
    setup = CLIENTS[client].setup(target)
    try:
        if write:
            write_files(setup, Path.home(), ask=not yes)
        else:
            show_files(setup)
    except FileProblem as problem:
        show_files(setup)
        typer.echo(f"mlx-server: {problem}", err=True)
        raise typer.Exit(EXIT_FILE) from None
    show_rest(setup)
    if not CLIENTS[client].fits(target):
        typer.echo(too_short(CLIENTS[client], target), err=True)


def too_short(client: Client, target: Target) -> str:
    """What is said of a context in which a client can't even begin."""
    return (
        f"mlx-server: a request may have {target.context:,} tokens with {target.model}, but {client.title} begins with"
        f" about {client.prompt:,} and wants up to {target.output:,} for an answer: it needs a longer context."
    )


def show_files(setup: Setup) -> None:
    """What belongs into each file."""
    from mlx_server.app.connect.files import MERGERS

    for file in setup.files:
        typer.echo(f"# ~/{file.path}\n{MERGERS[file.format]('', file.values)}")


def write_files(setup: Setup, home: Path, *, ask: bool) -> None:
    """Show the changes, and make them if they are wanted. Raises FileProblem, and typer.Abort for a no."""
    from mlx_server.app.connect.files import changed, diff, write

    if not setup.files:
        typer.echo("There is no file to write: it is configured by its environment.")
    changes = {home / file.path: changed(home / file.path, file.format, file.values) for file in setup.files}
    for path, (old, new) in changes.items():
        typer.echo(diff(path, old, new) or f"{path} is as it should be.")
    if any(old != new for old, new in changes.values()):
        if ask:
            typer.confirm("Write this?", abort=True)
        for path, (_, new) in changes.items():
            write(path, new)


def show_rest(setup: Setup) -> None:
    """The environment, the command and the note."""
    for name, value in setup.environment.items():
        # The key that came from there need not be shown again.
        typer.echo(f"export {name}={shlex.quote(value)}" if os.environ.get(name) != value else f"# {name} is set")
    typer.echo(setup.command)
    if setup.note:
        typer.echo(f"# {setup.note}")
