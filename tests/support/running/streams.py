"""Server-sent events, read as strictly as a client can."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from support.running.servers import Server, chat_body

DONE = "[DONE]"


def events(lines: Iterable[str]) -> Iterator[Any]:
    """The data of each event: an object, or `[DONE]`. Every event is one line of data and an empty one."""
    previous = ""
    for line in lines:
        assert line == "" if previous else line.startswith("data: "), line
        previous = line
        if line:
            data = line.removeprefix("data: ")
            yield data if data == DONE else json.loads(data)


@contextlib.contextmanager
def open_stream(server: Server, body: dict[str, Any], path: str = "/v1/chat/completions") -> Iterator[httpx.Response]:
    """A streamed answer's head; its body is read with `events(response.iter_lines())`. Leaves with the block."""
    with server.http.stream("POST", f"{server.root}{path}", json={**body, "stream": True}) as response:
        yield response


def read_stream(server: Server, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[Any]:
    """All events of a streamed answer."""
    with open_stream(server, body, path) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return list(events(response.iter_lines()))


def stream_chat(server: Server, text: Any, **more: Any) -> list[Any]:
    """All events of a streamed chat completion."""
    return read_stream(server, chat_body(text, **more))


def text_of(chunks: Iterable[Any], index: int = 0) -> str:
    """What a choice's chunks say together, of chat and of text completions."""
    choices = [choice for chunk in chunks if chunk != DONE for choice in chunk["choices"] if choice["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)
