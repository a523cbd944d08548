"""Calls of the Responses API's own tools that a client runs, read from the arguments that a model wrote."""

from __future__ import annotations

from typing import Any

import msgspec

from mlx_server.schemas.openai.responses_items import (
    ApplyPatchItem,
    ExecAction,
    Item,
    LocalShellItem,
    PatchOperation,
    ShellAction,
    ShellItem,
    ToolSearchItem,
    new_id,
)
from mlx_server.schemas.openai.responses_tools import Kind


def read_call(kind: Kind, call_id: str, arguments: str) -> Item | None:
    """The call; None if the arguments are not what its tool takes."""
    try:
        given = msgspec.json.decode(arguments, type=dict[str, Any])
        return item_of(kind, call_id, given)
    except (msgspec.MsgspecError, RecursionError):
        return None


def item_of(kind: Kind, call_id: str, given: dict[str, Any]) -> Item | None:
    """The same from decoded arguments. Raises msgspec.ValidationError."""
    match kind:
        case "local_shell":
            return LocalShellItem(new_id("lsh"), call_id, msgspec.convert({**given, "type": "exec"}, ExecAction))
        case "shell":
            commands = given.get("commands")
            lines = {**given, "commands": [commands]} if isinstance(commands, str) else given
            return ShellItem(new_id("sh"), call_id, msgspec.convert(lines, ShellAction))
        case "apply_patch":
            return ApplyPatchItem(new_id("apc"), call_id, msgspec.convert(given, PatchOperation))
        case "tool_search":
            return ToolSearchItem(new_id("tsc"), given, call_id)
    return None
