"""`python -m mlx_server.workers.engine.templates.child`: renders clients' templates on the socket that is its fd 0.

Frames are a 4-byte big-endian length and JSON. The first answer, an empty object, says that it is ready.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError

from mlx_server.workers.engine.templates.language import environment, variables

MAX_OUTPUT = 16 << 20
"""Characters that a template may make."""

MAX_MESSAGE = 600


class OutputTooLong(Exception):  # noqa: N818 - named for what it says
    """Raised when a template makes more than MAX_OUTPUT characters."""


def main(memory_bytes: int, cpu_s: int) -> None:
    """Answer until the other side is gone. `memory_bytes` is above what is used at the start, `cpu_s` per request."""
    limit_process(memory_bytes)
    channel = socket.socket(fileno=0)
    send(channel, {})
    while (request := receive(channel)) is not None:
        limit_cpu(cpu_s)
        send(channel, answer(request))


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
        return {kind: f"{where}{error}"[:MAX_MESSAGE] or type(error).__name__}


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


def limit_process(memory_bytes: int) -> None:
    """No files, no core, and no more address space than this above what is used now, where the system tells."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return  # no Linux: the parent watches how much memory is used
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_cpu(seconds: int) -> None:
    """From now on so many seconds: an end even where nobody is left to kill this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next request; None when the other side is gone."""
    head = read(channel, 4)
    body = None if head is None else read(channel, int.from_bytes(head, "big"))
    return None if body is None else dict(json.loads(body))


def read(channel: socket.socket, size: int) -> bytes | None:
    """So many bytes; None when the other side is gone."""
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one frame."""
    body = json.dumps(message).encode()
    channel.sendall(len(body).to_bytes(4, "big") + body)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
