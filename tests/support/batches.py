"""Batches as OpenAI's SDK runs them: a file of requests, and the lines of what becomes of them. Also without a server,
in a store of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import openai
from msgspec.structs import replace
from openai.types import Batch
from support.running.servers import chat_body

from mlx_server.app.batches.batch_store import BatchStore
from mlx_server.app.batches.calls import LineAnswer
from mlx_server.app.batches.rows import PendingLine, StoredBatch
from mlx_server.app.files.file_store import FileStore, Quota
from mlx_server.app.files.tables import MIGRATIONS
from mlx_server.app.http.keys import Credential
from mlx_server.app.storage.database import Database

S = TypeVar("S", bound=BatchStore)

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


@contextmanager
def opened(kind: type[S], folder: Path) -> Iterator[S]:
    """A store of batches below a folder."""
    database = Database(folder / "files.sqlite3", "files", MIGRATIONS)
    files = FileStore(database, folder / "files", Quota(1 << 30, 100))
    yield kind(database, folder / "batches", files)
    database.close()


async def made(store: BatchStore, count: int = 1, **more: Any) -> StoredBatch:
    """A new batch of so many chats; `more` are fields of its row."""
    source = store.folder.parent / "source"
    source.write_bytes(jsonl(chats(map(str, range(count)))))
    now = int(store.files.clock())
    batch = StoredBatch(
        number=0,
        id="batch_x",
        owner="",
        anthropic=False,
        endpoint=CHAT,
        input_file="file-x",
        window="24h",
        metadata=b"{}",
        output_lifetime=None,
        status="validating",
        created=now,
        expires=now + 86_400,
    )
    return await store.create(replace(batch, **more), source)


async def good(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
    """Answers every line."""
    return LineAnswer(200, b'{"good": true}', None, ran=True)
