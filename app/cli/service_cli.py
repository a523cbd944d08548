"""`mlx-server service`: the server as a service that starts by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from mlx_server.app.cli.commands import App

if TYPE_CHECKING:
    from mlx_server.app.service.manager import Manager

EXIT_FAILED = 1
PASSED_ON = ("PATH", "HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME")
"""Variables of the environment that the service keeps, as they are when it is installed."""

app = App(help="Have the server start by itself: systemd on Linux, launchd on a Mac.")
console, stderr = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)

Name = Annotated[str, typer.Option(help="What the service is called.", show_default=True)]
System = Annotated[bool, typer.Option("--system", help="For the whole machine, by root (systemd); else for this user.")]


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def install(
    context: typer.Context,
    name: Name = "mlx-server",
    system: System = False,
    show: Annotated[bool, typer.Option("--show", help="Print the file and do nothing.")] = False,
) -> None:
    """Install the service and start it; what follows are flags of `mlx-server launch`.

    Example: mlx-server service install --model-path mlx-community/Qwen3-0.6B-4bit --port 8000
    """
    from mlx_server.app.service.manager import ServiceError

    flags = [absolute(word) for word in context.args]
    check(flags)
    manager = manager_for(name, system, flags)
    if show:
        typer.echo(manager.content.decode(), nl=False)
        return
    checked(manager)
    try:
        manager.write()
        manager.started()
    except ServiceError as error:
        fail(f"{error}. The file is {manager.file}" if manager.file.exists() else str(error))
    console.print(f"{name} is installed ({manager.file}) and starts by itself.", highlight=False)
    console.print("Look at it with `mlx-server service status` and `mlx-server service logs`.", highlight=False)


@app.command()
def status(name: Name = "mlx-server", system: System = False) -> None:
    """How the service is, as the operating system says it."""
    manager = checked(manager_for(name, system))
    raise typer.Exit(passed_on(manager.status))


@app.command()
def logs(
    name: Name = "mlx-server",
    system: System = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """The end of the service's log."""
    manager = checked(manager_for(name, system))
    raise typer.Exit(passed_on((*manager.logs, *(("-f",) if follow else ()))))


@app.command()
def remove(name: Name = "mlx-server", system: System = False) -> None:
    """Stop the service and remove it; models and data stay."""
    from mlx_server.app.service.manager import ServiceError

    try:
        there = manager_for(name, system).removed()
    except ServiceError as error:
        fail(str(error))
    console.print(f"{name} is removed." if there else f"There is no service {name}.", highlight=False)


def manager_for(name: str, system: bool, flags: list[str] | None = None) -> Manager:
    """The operating system's way to look after a server with these flags."""
    from mlx_server.app.config.settings import default_data_dir
    from mlx_server.app.service.manager import manager_of
    from mlx_server.app.service.units import Service

    command = (sys.executable, "-m", "mlx_server.app", "launch", *(flags or ()))
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    service = Service(name, command, Path.home(), environment=environment, log=default_data_dir() / f"{name}.log")
    return manager_of(service, system=system, home=Path.home())


def checked(manager: Manager) -> Manager:
    """The same one. Ends the command if it is not there."""
    from mlx_server.app.service.manager import ServiceError

    try:
        manager.check()
    except ServiceError as error:
        fail(str(error))
    return manager


def absolute(word: str) -> str:
    """A path of this folder as one that the service finds too."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value).expanduser()
    return f"{flag}{equals}{path.absolute()}" if value and path.exists() and not path.is_absolute() else word


def check(flags: list[str]) -> None:
    """Refuse flags that `launch` would refuse, before anything is installed."""
    from mlx_server.app.cli.cli import app as commands

    launch = typer.main.get_command(commands).commands["launch"]  # type: ignore[attr-defined]
    try:
        launch.make_context("mlx-server service install", list(flags))
    except typer.Exit:
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        fail(error.format_message())


def passed_on(command: tuple[str, ...]) -> int:
    """Run one of the operating system's programs at this terminal; what it ended with."""
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own words
    except OSError as error:
        fail(f"{command[0]} can't be run: {error.strerror or error}")


def fail(message: str) -> NoReturn:
    """One line on stderr, and the end."""
    stderr.print(f"[bold red]Error:[/] {escape(message)}", highlight=False)
    raise typer.Exit(EXIT_FAILED)
