"""Parameters of queries."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from mlx_server.schemas.internal.errors import InvalidRequest

INCLUDE = ("include", "include[]")
"""What clients ask for of kept items beyond the usual: all that there is of them is told anyway."""


def query_of(request: Request, allowed: Iterable[str]) -> dict[str, str]:
    """The query's parameters. Raises InvalidRequest for one that is not served."""
    query = dict(request.query_params)
    for name in query:
        if name not in allowed:
            message = f"`{name[:64]}` is not supported here; allowed are {', '.join(allowed)}."
            raise InvalidRequest(message, name, "unsupported_parameter")
    return query


def flag(given: str | None, name: str) -> bool:
    """A boolean, false if it is not there. Raises InvalidRequest."""
    if given not in (None, "true", "false"):
        raise InvalidRequest(f"`{name}`: 'true' or 'false' is allowed, got {given!r}.", name)
    return given == "true"


def number(given: str, name: str, least: int, most: int) -> int:
    """An integer. Raises InvalidRequest."""
    try:
        value = int(given) if given.isascii() and len(given) < 12 else most + 1
    except ValueError:
        value = most + 1
    if not least <= value <= most:
        raise InvalidRequest(f"`{name}`: an integer from {least} to {most} is allowed, got {given!r}.", name)
    return value
