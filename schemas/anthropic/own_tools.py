"""Tools that Anthropic defines and clients run: what they take, as Anthropic's documentation has it."""

from __future__ import annotations

import re
from typing import Any

OWN_TOOL = re.compile(r"(bash|text_editor|memory|computer)_(\d{8})")
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
LINES = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
POINT = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}

INSERTS_TEXT_FROM = 20250728
"""From this version on the editor's `insert` calls its text `insert_text`; before it was `new_str`."""

UNDOES_UNTIL = 20250124
"""The last version of the editor that can undo."""

ACTIONS = (
    (20241022, ("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click")),
    (20241022, ("double_click", "screenshot", "cursor_position")),
    (20250124, ("left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait", "triple_click")),
)
"""What can be done with a computer, from which version on."""


def own_tool(type_: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """What a tool of Anthropic's that clients run is told to be, and the JSON schema of its input; None for others.
    `options` are the fields of the tool."""
    found = OWN_TOOL.fullmatch(type_)
    if found is None:
        return None
    version = int(found[2])
    match found[1]:
        case "bash":
            return "Runs a command in a shell that stays open; `restart` begins a new one.", bash()
        case "text_editor":
            return "Shows, creates and changes text files.", text_editor(version)
        case "memory":
            return "Keeps notes as files in the folder /memories, which outlives the conversation.", memory()
        case _:
            size = f"{options.get('display_width_px')} x {options.get('display_height_px')}"
            zooms = bool(options.get("enable_zoom"))
            return f"Uses the mouse, the keyboard and the screen ({size} pixels) of a computer.", computer(
                version, zooms=zooms
            )


def bash() -> dict[str, Any]:
    """Either a command or a restart."""
    return of({"command": TEXT, "restart": {"type": "boolean"}})


def text_editor(version: int) -> dict[str, Any]:
    """Commands on one file."""
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if version <= UNDOES_UNTIL else [])]
    inserts = {"insert_text": TEXT} if version >= INSERTS_TEXT_FROM else {}
    fields = {"file_text": TEXT, "old_str": TEXT, "new_str": TEXT, "insert_line": NUMBER, **inserts}
    return of({"command": {"enum": commands}, "path": TEXT, **fields, "view_range": LINES}, "command", "path")


def memory() -> dict[str, Any]:
    """Commands on files of notes."""
    commands = ["view", "create", "str_replace", "insert", "delete", "rename"]
    fields = {"path": TEXT, "file_text": TEXT, "old_str": TEXT, "new_str": TEXT, "insert_line": NUMBER}
    more = {"insert_text": TEXT, "old_path": TEXT, "new_path": TEXT, "view_range": LINES}
    return of({"command": {"enum": commands}, **fields, **more}, "command")


def computer(version: int, *, zooms: bool) -> dict[str, Any]:
    """Actions on a screen, whose places are in pixels from the upper left corner."""
    actions = [action for since, those in ACTIONS if version >= since for action in those]
    fields: dict[str, Any] = {"text": TEXT, "coordinate": POINT, "start_coordinate": POINT}
    if "scroll" in actions:
        fields["scroll_direction"] = {"enum": ["up", "down", "left", "right"]}
        fields |= {"scroll_amount": NUMBER, "duration": {"type": "number"}}
    if zooms:
        actions.append("zoom")
        fields["region"] = {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4}
    return of({"action": {"enum": actions}, **fields}, "action")


def of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": properties, "required": list(required)}
