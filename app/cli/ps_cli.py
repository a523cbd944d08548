"""`mlx-server ps`: what a running server does, asked over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mlx_server.app.connect.running_server import ModelLine

EXIT_SERVER = 5
COLUMNS = ("model", "type", "state", "memory", "running", "waiting", "up", "idle", "processes")
DEFAULT_URL = "http://127.0.0.1:8000"


def first_of(keys: str | None) -> str | None:
    """One key: the variable may hold several, which are the server's."""
    return next(iter((keys or "").split()), None)


Url = Annotated[str, typer.Option(help="Where the server listens.", envvar="MLX_SERVER_URL", show_envvar=True)]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="A key of the server's, if it needs one.", envvar="MLX_SERVER_API_KEY", show_envvar=True, callback=first_of
    ),
]


def ps(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1, max=600)] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the models of a running server: their state, memory and requests.

    Example: mlx-server ps --url http://127.0.0.1:8000
    """
    from mlx_server.app.cli.console import table_console
    from mlx_server.app.connect.running_server import ServerProblem, ask

    try:
        lines = ask(url, api_key, timeout, datetime.now(UTC))
    except ServerProblem as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([object_of(line) for line in lines], indent=2))
        return
    console = table_console()
    console.print(table_of(lines, console) if lines else "No models are loaded.")


def table_of(lines: Sequence[ModelLine], console: Console) -> Table:
    """A line for each model."""
    from mlx_server.app.machine.sizes import GIBIBYTE, memory_size
    from mlx_server.app.terminal.fitting import fitting

    cells = [
        (
            line.name,
            line.type or "-",
            line.state,
            "-" if line.memory_gb is None else memory_size(line.memory_gb * GIBIBYTE),
            str(line.running),
            str(line.waiting),
            span(line.up_s),
            "-" if line.running else span(line.idle_s),
            " ".join(map(str, line.pids)) or "-",
        )
        for line in lines
    ]
    return fitting(COLUMNS, cells, console)


def object_of(line: ModelLine) -> dict[str, Any]:
    """The same for programs; `…_s` are seconds."""
    return {
        "model": line.name,
        "type": line.type,
        "state": line.state,
        "pids": list(line.pids),
        "replicas": line.replicas,
        "memory_gb": line.memory_gb,
        "running_requests": line.running,
        "waiting_requests": line.waiting,
        "up_s": line.up_s,
        "idle_s": line.idle_s,
    }


def span(seconds: float | None) -> str:
    """A time for people, to two units: 42s, 3m 20s, 2h 5m, 4d 1h."""
    if seconds is None:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def fail(message: str) -> NoReturn:
    """One line on stderr, and the end."""
    console = Console(stderr=True)
    console.print("Error:", style="bold red", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_SERVER)
