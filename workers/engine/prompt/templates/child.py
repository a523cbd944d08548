"""A process of its own: renders clients' templates on the socket that is its fd 0."""

from __future__ import annotations

import sys
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError

from mlx_server.workers.engine.prompt.templates.language import environment, variables
from mlx_server.workers.engine.sandbox.child import serve

MAX_OUTPUT = 16 << 20
"""Characters that a template may make."""

MAX_MESSAGE = 600


class OutputTooLong(Exception):  # noqa: N818 - named for what it says
    """Raised when a template makes more than MAX_OUTPUT characters."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """`{"text"}` or `{"variables"}`; `{"refused"}` where the template said no, `{"failed"}` where it is at fault."""
    try:
        if request["context"] is None:
            return {"variables": sorted(variables(request["template"]))}
        return {"text": render(environment().from_string(request["template"]), request["context"])}
    except OutputTooLong:
        return {"failed": f"makes more than {MAX_OUTPUT} characters"}
    except MemoryError:
        return {"failed": "needs too much memory"}
    except Exception as error:  # noqa: BLE001 - it is a client's program
        # What the template raises itself is a plain TemplateError; jinja2's own errors are derived from it.
        kind = "refused" if type(error) is TemplateError else "failed"
        where = f"line {line}: " if (line := getattr(error, "lineno", None)) else ""
        message = f"{where}{error}"[:MAX_MESSAGE].encode(errors="replace").decode()  # it may hold lone surrogates
        return {kind: message or type(error).__name__}


def render(template: Template, context: dict[str, Any]) -> str:
    """The text. Raises OutputTooLong as soon as that is known, and ValueError for what is no Unicode."""
    pieces = []
    length = 0
    for piece in template.generate(context):
        length += len(piece)
        if length > MAX_OUTPUT:
            raise OutputTooLong
        pieces.append(piece)
    text = "".join(pieces)
    if any("\ud800" <= character <= "\udfff" for character in set(text)):
        raise ValueError("makes lone surrogates, which are no characters")
    return text


if __name__ == "__main__":
    serve(lambda greeting: answer, *map(int, sys.argv[1:]))
