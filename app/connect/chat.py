"""A conversation with a running server, as the terminal has it: streamed over chat completions."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from mlx_server.app.connect.running_server import ServerProblem, key_headers

CONNECT_S = 10.0
DATA = b"data: "


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of an answer: its text, or what the model thinks before it."""

    text: str
    thought: bool = False


@dataclass(slots=True)
class Usage:
    """What an answer cost, in tokens: its prompt's, those of it that were known, and its own."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass
class Chat:
    """A conversation with one model. `options` are fields of each request."""

    root: str
    model: str
    api_key: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    _pictures: list[Path] = field(default_factory=list)

    def instruct(self, text: str) -> None:
        """Make this the system message, in place of another; an empty one takes it away."""
        text = sendable(text)
        rest = [message for message in self.messages if message["role"] != "system"]
        self.messages = [*([{"role": "system", "content": text}] if text else []), *rest]

    def attach(self, picture: Path) -> None:
        """Show a picture with the next turn, be it answered or not. Raises OSError where there is no such file."""
        if not picture.is_file():
            raise FileNotFoundError(f"there is no file {picture}")
        self._pictures.append(picture)

    def clear(self) -> None:
        """Forget all turns but the system message."""
        self.messages = [message for message in self.messages if message["role"] == "system"]
        self._pictures.clear()

    def save(self, file: Path) -> None:
        """Write the conversation as Markdown. Raises OSError."""
        turns = (f"## {message['role']}\n\n{text_of(message['content'])}\n" for message in self.messages)
        file.write_text("\n".join(turns), encoding="utf-8")

    def say(self, text: str) -> Iterator[Piece]:
        """The answer to a turn, piece by piece. What has come of it is kept, also if nobody reads on; a turn without an
        answer is not. Raises ServerProblem."""
        content: Any = sendable(text)
        if self._pictures:
            content = [{"type": "text", "text": content}, *map(picture_part, self._pictures)]
        self.messages.append({"role": "user", "content": content})
        self.usage = Usage()
        said: list[str] = []
        try:
            for piece in self._stream():
                if not piece.thought:
                    said.append(piece.text)
                yield piece
        finally:
            self._pictures.clear()
            if said:
                self.messages.append({"role": "assistant", "content": "".join(said)})
            else:
                self.messages.pop()

    def _stream(self) -> Iterator[Piece]:
        body = {"model": self.model, "messages": self.messages, "stream": True, **self.options}
        body["stream_options"] = {"include_usage": True}
        headers, timeout = key_headers(self.api_key), httpx2.Timeout(None, connect=CONNECT_S)
        try:
            # A proxy would be asked for this machine's own addresses, too.
            with (
                httpx2.Client(timeout=timeout, trust_env=False) as client,
                client.stream("POST", f"{self.root}/v1/chat/completions", json=body, headers=headers) as answer,
            ):
                if answer.status_code != httpx2.codes.OK:
                    raise ServerProblem(problem_of(answer.read()))
                for data in events(answer.iter_bytes()):
                    if data != b"[DONE]":
                        yield from self._pieces(json.loads(data))
        except httpx2.HTTPError as error:
            raise ServerProblem(f"{self.root} can't be asked: {error or type(error).__name__}") from None

    def _pieces(self, event: dict[str, Any]) -> Iterator[Piece]:
        if "error" in event:
            raise ServerProblem(str(event["error"].get("message")))
        if usage := event.get("usage"):
            known = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            self.usage = Usage(usage["prompt_tokens"], known, usage["completion_tokens"])
        for choice in event.get("choices", ()):
            delta = choice.get("delta", {})
            if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                yield Piece(thought, thought=True)
            if text := delta.get("content"):
                yield Piece(text)


def sendable(text: str) -> str:
    """Words of a command line, where what is in no UTF-8 comes as surrogates, which can't be sent."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event of a stream. Its lines end with a line feed alone: texts may hold all that Unicode ends
    lines with."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.removeprefix(DATA) for line in lines if line.startswith(DATA))


def picture_part(picture: Path) -> dict[str, Any]:
    """A file as a part of a message. Raises OSError."""
    kind = mimetypes.guess_type(picture.name)[0] or "image/png"
    data = base64.b64encode(picture.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def text_of(content: Any) -> str:
    """The words of a message; a picture is named."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "(a picture)" for part in content)


def problem_of(body: bytes) -> str:
    """What the server says is wrong, in one line."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the server answered something else: is it an mlx-server?"
