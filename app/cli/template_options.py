"""The command line's options about chat templates: read and checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import typer

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.bounds import check_json

MAX_TEMPLATE_BYTES = 1 << 20


def read_template(path: Path | None) -> str | None:
    """The file's text. Raises typer.BadParameter."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEMPLATE_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} can't be read: {error}", param_hint="--chat-template") from None
    if not text.strip() or len(content) > MAX_TEMPLATE_BYTES:
        what = "larger than 1 MiB" if text.strip() else "empty"
        raise typer.BadParameter(f"{path} is {what}: it can't be a chat template.", param_hint="--chat-template")
    return text


def parse_arguments(text: str | None) -> dict[str, Any]:
    """The JSON object. Raises typer.BadParameter."""
    if text is None:
        return {}
    hint = "--chat-template-args"
    try:
        arguments = msgspec.json.decode(text, type=dict[str, Any])
        check_json(arguments, hint)
    except (msgspec.MsgspecError, RecursionError):
        message = f"""{text[:100]!r} is no JSON object; write one such as '{{"enable_thinking": false}}'."""
        raise typer.BadParameter(message, param_hint=hint) from None
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint=hint) from None
    return arguments
