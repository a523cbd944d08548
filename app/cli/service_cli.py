"""`mlx-server service`: the server as a service that starts by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from mlx_server.app.cli.commands import App

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlx_server.app.service.manager import Manager
    from mlx_server.app.service.units import Service

EXIT_FAILED = 1
PASSED_ON = (
    "PATH",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
)
"""Variables of the environment that the service keeps, as they are when it is installed, beside those of flags."""

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

    service = service_of(name, context.args)
    manager = manager_for(service, system)
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
    manager = checked(manager_for(service_of(name), system))
    raise typer.Exit(passed_on(manager.status))


@app.command()
def logs(
    name: Name = "mlx-server",
    system: System = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """The end of the service's log."""
    manager = checked(manager_for(service_of(name), system))
    raise typer.Exit(passed_on((*manager.logs, *(("-f",) if follow else ()))))


@app.command()
def remove(name: Name = "mlx-server", system: System = False) -> None:
    """Stop the service and remove it; models and data stay."""
    from mlx_server.app.service.manager import ServiceError

    try:
        there = manager_for(service_of(name), system).removed()
    except ServiceError as error:
        fail(str(error))
    console.print(f"{name} is removed." if there else f"There is no service {name}.", highlight=False)


def service_of(name: str, flags: Sequence[str] | None = None) -> Service:
    """A server with these flags of `launch` and what the environment says of others, where they are typed. Ends the
    command if `launch` would refuse them."""
    from mlx_server.app.config.settings import default_data_dir
    from mlx_server.app.service.units import Service

    log = default_data_dir() / f"{name}.log"
    if flags is None:
        return Service(name, (), Path.home(), log=log)
    from mlx_server.app.cli.cli import app as commands

    launch = typer.main.get_command(commands).commands["launch"]  # type: ignore[attr-defined]
    try:
        context = launch.make_context("mlx-server service install", list(flags))
    except typer.Exit:
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        fail(error.format_message())
    variables = {*PASSED_ON, *(name for flag in launch.params for name in variables_of(flag, context))}
    return Service(
        name,
        (sys.executable, "-m", "mlx_server.app", "launch", *flags),
        Path.cwd() if any(map(is_here, flags)) else Path.home(),
        drain_s=context.params["drain_timeout"],
        environment={one: value for one, value in os.environ.items() if one in variables},
        log=log,
    )


def variables_of(flag: Any, context: Any) -> Sequence[str]:
    """Which variables of the environment set a flag."""
    names: str | Sequence[str] = flag.envvar or f"{context.auto_envvar_prefix}_{flag.name}".upper()
    return [names] if isinstance(names, str) else names


def is_here(word: str) -> bool:
    """Whether a flag, or what it sets, is the path of something in this folder."""
    values = {word, word.partition("=")[2], word.rpartition("=")[2]} - {""}
    return any(not Path(value).is_absolute() and Path(value).exists() for value in values)


def manager_for(service: Service, system: bool) -> Manager:
    """The operating system's way to look after a server."""
    from mlx_server.app.service.manager import manager_of

    return manager_of(service, system=system, home=Path.home())


def checked(manager: Manager) -> Manager:
    """The same one. Ends the command if it is not there."""
    from mlx_server.app.service.manager import ServiceError

    try:
        manager.check()
    except ServiceError as error:
        fail(str(error))
    return manager


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
