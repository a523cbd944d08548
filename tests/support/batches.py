"""Batches as OpenAI's SDK runs them: a file of requests, and the lines of what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import openai
from openai.types import Batch
from support.running.servers import chat_body

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, body: Any, url: str = CHAT) -> dict[str, Any]:
    """A request of a file."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chats(texts: Iterable[Any], **more: Any) -> list[dict[str, Any]]:
    """A chat for each script, or for each text that is to be its answer, with the ids `0`, `1`, …"""
    scripts = [{"text": one, "tokens": 1} if isinstance(one, str) else one for one in texts]
    return [line(str(number), chat_body(script, model="m", **more)) for number, script in enumerate(scripts)]


def jsonl(lines: Iterable[Any]) -> bytes:
    """A file with an object in each line."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def submit(client: openai.OpenAI, lines: Sequence[Any] | bytes, endpoint: Any = CHAT, **more: Any) -> Batch:
    """A new batch."""
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    how: Any = {"completion_window": "24h", **more}
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, **how)


def ended(client: openai.OpenAI, id_: str, timeout_s: float = 60) -> Batch:
    """A batch once it has come to its end."""
    deadline = time.monotonic() + timeout_s
    while (batch := client.batches.retrieve(id_)).status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def results(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of an output or error file."""
    assert file_id is not None
    return [json.loads(one) for one in client.files.content(file_id).read().splitlines()]


def texts_of(lines: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What chats were answered with, by their ids; each may be there once."""
    found: dict[str, str] = {}
    for one in lines:
        assert one["custom_id"] not in found
        found[one["custom_id"]] = one["response"]["body"]["choices"][0]["message"]["content"]
    return found
