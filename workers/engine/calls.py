"""The function calls of one answer as they are found, and what models' parsers return, made regular."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mlx_server.schemas.generation import Tool
from mlx_server.workers.engine.markup import Called, Piece

NO_ARGUMENTS = "{}"


class Rest(NamedTuple):
    """What follows a block of calls. A block that failed made no call, and its own text leads what follows."""

    text: str
    failed: bool


class Calls:
    """Numbers the calls and collects their pieces.

    Only the request's own functions can be called: a client looks a call's name up, so that another name would be an
    error there, while as text it shows what the model meant.
    """

    def __init__(self, tools: tuple[Tool, ...], *, parallel: bool) -> None:
        self.names = frozenset(tool.name for tool in tools)
        self.whole = 0
        self.begun = 0
        self.pieces: list[Piece] = []
        self._tools = tools
        self._parallel = parallel

    @property
    def complete(self) -> bool:
        """No further call is wanted."""
        return self.whole > 0 and not self._parallel

    def definitions(self) -> list[dict[str, Any]]:
        """The functions as models' parsers want them, which look types up there."""
        empty = {"type": "object", "properties": {}}
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.parameters or empty,
                },
            }
            for tool in self._tools
        ]

    def begin(self, name: str) -> int:
        """Start the next call; gives its number."""
        self.pieces.append(Called(self.begun, "", name))
        self.begun += 1
        return self.begun - 1

    def more(self, call: int, arguments: str) -> None:
        """The next part of a call's arguments."""
        if arguments:
            self.pieces.append(Called(call, arguments))

    def end(self) -> None:
        """A call is whole."""
        self.whole += 1


def regular(parsed: Any) -> list[tuple[str, str]]:
    """Names, and arguments as JSON, from whatever a model's parser returned. Raises ValueError."""
    if isinstance(parsed, str):
        parsed = json.loads(parsed)
    if isinstance(parsed, (list, tuple)):
        if not parsed:
            raise ValueError("no call")
        return [call for one in parsed for call in regular(one)]
    if not isinstance(parsed, dict):
        raise ValueError("not a call")
    if isinstance(parsed.get("function"), dict):
        parsed = parsed["function"]
    name = next((parsed[key] for key in ("name", "tool_name", "function") if parsed.get(key)), None)
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a call without a name")
    arguments = next((parsed[key] for key in ("arguments", "parameters") if key in parsed), None)
    return [(name.strip(), arguments_text(arguments))]


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON; a string is taken to be JSON already, nothing to be no arguments. Raises ValueError."""
    if isinstance(arguments, str):
        return arguments.strip() or NO_ARGUMENTS
    try:
        return NO_ARGUMENTS if arguments is None else json.dumps(arguments, ensure_ascii=False, default=str)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def is_json(text: str) -> bool:
    """Whether a text is whole JSON; none at all is, for a function without arguments."""
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True
