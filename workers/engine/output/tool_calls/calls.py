"""The function calls of one answer as they are found, and a regular form for what models' parsers return."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from mlx_server.schemas.internal.generation import Tool
from mlx_server.workers.engine.output.tool_calls.argument_types import Parameters
from mlx_server.workers.engine.output.tool_calls.loose_json import plain_arguments
from mlx_server.workers.engine.output.tool_calls.markup import Called, Piece, VisibleText

NO_ARGUMENTS = "{}"
NAME = re.compile(r"[\w.:/@-]{1,200}")


class Rest(NamedTuple):
    """The text after a block of calls. A block that failed made no call, and its own text comes first in this.

    `closed`: the block's end mark has been read.
    """

    text: str
    failed: bool = False
    closed: bool = False


class ToolCalls:
    """Numbers the calls and collects their pieces.

    A function that is not among the request's can be called too: whoever runs the calls then tells the model so, while
    text would end the conversation. With `only_known` it can't: the text may be no call at all.
    """

    def __init__(self, tools: tuple[Tool, ...], *, parallel: bool) -> None:
        self.whole = 0
        self.begun = 0
        self.pieces: list[Piece] = []
        self.only_known = False
        self._tools = {tool.name: tool for tool in tools}
        self._parallel = parallel

    @property
    def complete(self) -> bool:
        """Whether no further call is wanted."""
        return self.whole > 0 and not self._parallel

    @property
    def allowed(self) -> bool:
        """Whether there may be calls."""
        return bool(self._tools)

    def knows(self, name: str) -> bool:
        """Whether the request has a function of this name."""
        return name in self._tools

    def takes(self, name: str) -> bool:
        """Whether a function of this name can be called."""
        return self.knows(name) or (self.allowed and not self.only_known and NAME.fullmatch(name) is not None)

    def parameters(self, name: str) -> Parameters:
        """A function's parameters; none are known of one that is not among the request's."""
        tool = self._tools.get(name)
        return Parameters(tool.parameters if tool else None)

    def definitions(self) -> list[dict[str, Any]]:
        """The functions in OpenAI's form: models' parsers look up types there."""
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
            for tool in self._tools.values()
        ]

    def begin(self, name: str) -> int:
        """Start the next call and return its number."""
        self.pieces.append(Called(self.begun, "", name))
        self.begun += 1
        return self.begun - 1

    def more(self, call: int, arguments: str) -> None:
        """Add the next part of a call's arguments."""
        if arguments:
            self.pieces.append(Called(call, arguments))

    def end(self) -> None:
        """Count a call as complete."""
        self.whole += 1

    def say(self, text: str) -> None:
        """Add text between calls that is no call."""
        if text.strip():
            self.pieces.append(VisibleText(text.strip()))


def regular(parsed: Any) -> list[tuple[str, str]]:
    """The names of calls and their arguments as JSON, from what a model's parser returned. Raises ValueError."""
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
    """Arguments as JSON; a string is taken for JSON already, None for no arguments. Raises ValueError."""
    if isinstance(arguments, str):
        return plain_arguments(arguments)
    try:
        return NO_ARGUMENTS if arguments is None else json.dumps(arguments, ensure_ascii=False, default=str)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
