"""One request over a connection of its own, and what to think of its end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httptools

HUNG_S = 90.0
"""A request without an end for so long hangs."""

OK, WRONG, ERROR, DISHONEST, HUNG = "ok", "wrong", "error", "dishonest", "hung"
"""`wrong`: it ended well with another text than undisturbed; `error`: it says so itself, by its status or in an event;
`dishonest`: it just stops, or says two things at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request: `status` 0 where there was none; `detail` is an error's words."""

    model: str
    prompt: str
    stream: bool
    started_s: float
    took_s: float
    outcome: str
    status: int = 0
    detail: str = ""
    text: str = ""
    cached_tokens: int = 0

    def short(self) -> tuple[object, ...]:
        """As it is kept."""
        return self.model, self.stream, round(self.took_s, 3), self.outcome, self.status, self.detail


@dataclass(slots=True)
class Response:
    """httptools' callbacks."""

    body: bytes = b""
    complete: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def chat(model: str, prompt: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body of a greedy request."""
    given = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, "temperature": 0}
    return given | ({"stream_options": {"include_usage": True}} if stream else {}) | more


def head(body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
    """The whole request as bytes; the server closes the connection after it."""
    content = json.dumps(body).encode()
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Connection: close")
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


async def ask(url: str, body: dict[str, Any], reference: str | None, path: str = "/v1/chat/completions") -> Row:
    """The end of one request; its text is compared with `reference`, if there is one."""
    began = perf_counter()
    response = Response()
    parser = httptools.HttpResponseParser(response)
    try:
        async with asyncio.timeout(HUNG_S):
            place = urlsplit(url)
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(head(body, path))
                while data := await reader.read(1 << 16):
                    parser.feed_data(data)
            finally:
                writer.close()
        outcome = judge(parser, response, reference)
    except TimeoutError:
        outcome = HUNG, 0, "", "", 0
    except (OSError, httptools.HttpParserError) as error:
        outcome = DISHONEST, 0, f"{type(error).__name__}: {error}", "", 0
    kind, status, detail, text, cached = outcome
    prompt = str(body.get("messages", [{"content": body.get("input")}])[0]["content"])[:40]
    return Row(body["model"], prompt, body["stream"], began, perf_counter() - began, kind, status, detail, text, cached)


def judge(parser: Any, response: Response, reference: str | None) -> tuple[str, int, str, str, int]:
    """Outcome, status, an error's words, the text, and the tokens that were known."""
    if not response.complete:
        return DISHONEST, 0, f"cut off after {len(response.body)} bytes", "", 0
    status = int(parser.get_status_code())
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return judge_stream(status, response.body, reference)
    try:
        told = json.loads(response.body)
    except ValueError:
        return DISHONEST, status, "no JSON", "", 0
    if status != 200:
        words = told.get("error", {}).get("message") if isinstance(told, dict) else None
        return (ERROR if words else DISHONEST), status, str(words), "", 0
    if "choices" not in told:
        return OK, status, "", "", 0
    text = told["choices"][0]["message"]["content"]
    return verdict(text, reference), status, "", text, cached_of(told)


def judge_stream(status: int, body: bytes, reference: str | None) -> tuple[str, int, str, str, int]:
    """The same of events."""
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    done = lines[-1:] == ["[DONE]"]
    told = [json.loads(line) for line in lines if line != "[DONE]"]
    errors = [one["error"]["message"] for one in told if "error" in one]
    choices = [choice for one in told for choice in one.get("choices", ())]
    if errors:
        fake = done or any(choice["finish_reason"] for choice in choices)
        return (DISHONEST if fake else ERROR), status, errors[0], "", 0
    if not done:
        return DISHONEST, status, "a stream without an end", "", 0
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return verdict(text, reference), status, "", text, max(map(cached_of, told), default=0)


def verdict(text: str, reference: str | None) -> str:
    return OK if reference is None or text == reference else WRONG


def cached_of(told: Any) -> int:
    details = (told.get("usage") or {}).get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)
