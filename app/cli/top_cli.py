"""`mlx-server top`: what a running server does, as it changes."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_server.app.cli.ps_cli import DEFAULT_URL, ApiKey, Url, fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_server.schemas.live import LiveState

TIMEOUT_S = 10.0
LINES_ABOVE = 6
"""Lines that there are beside those of models and requests."""


def top(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each second.")] = False,
) -> None:
    """Watch a running server: its models, queue, requests and rates. The key q ends it.

    Example: mlx-server top --once --json | jq .requests
    """
    from mlx_server.app.connect.live_states import live_states
    from mlx_server.app.connect.running_server import ServerProblem, root_of

    try:
        root = root_of(url)
        # The first state knows no rates yet.
        states = itertools.islice(live_states(root, api_key, TIMEOUT_S), 1, None)
        if once or not (as_json or sys.stdout.isatty()):
            states = itertools.islice(states, 1)
        show(root, states, as_json=as_json, once=once)
    except ServerProblem as error:
        fail(str(error))
    except KeyboardInterrupt:
        return


def show(root: str, states: Iterator[LiveState], *, as_json: bool, once: bool) -> None:
    """Print states as they come, or draw each in the place of the one before."""
    import msgspec
    from rich.live import Live

    from mlx_server.app.cli.console import table_console
    from mlx_server.app.terminal.keys import ends_with
    from mlx_server.app.terminal.screen import Screen

    if as_json:
        for state in states:
            print(msgspec.json.encode(state).decode(), flush=True)
        return
    console, screen = table_console(), Screen(root)
    if once or not console.is_terminal:
        for state in states:
            console.print(screen.draw(state))
        return
    with ends_with("qQ"), Live(console=console, screen=True, auto_refresh=False) as live:
        for state in states:
            rows = max(1, console.height - LINES_ABOVE - len(state.models))
            live.update(screen.draw(state, rows, console.width), refresh=True)
    fail(f"the server at {root} has stopped.")
