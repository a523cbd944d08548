"""OpenAI's SDK on `/v1/uploads`: a file in parts is one once all of it is there, and never a part of one."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import openai
import pytest
from openai.types import Upload
from support.responses import strict
from support.running.clients import sdk
from support.running.servers import SCRIPTED, Server, serving

from mlx_server.app.files.file_store import FileStore, Quota
from mlx_server.app.files.tables import MIGRATIONS
from mlx_server.app.files.upload_store import UploadStore, joined
from mlx_server.app.storage.database import Database
from mlx_server.schemas.internal.errors import InvalidRequest

T = TypeVar("T")
WHOLE = b"first second"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *SCRIPTED, "--api-key", "one", "--api-key", "two", "--file-quota-mb", 2, until=Server.wait_listening
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with sdk(server, api_key="one") as client:
        yield client
        for file in client.files.list():
            client.files.delete(file.id)


def announced(client: openai.OpenAI, size: int = len(WHOLE)) -> Upload:
    return client.uploads.create(bytes=size, filename="a.txt", mime_type="text/plain", purpose="user_data")


def test_parts_become_a_file_in_the_order_that_is_asked_for(server: Server, client: openai.OpenAI) -> None:
    upload = announced(client)
    assert (upload.status, upload.bytes, upload.expires_at - upload.created_at) == ("pending", 12, 3600)
    second = client.uploads.parts.create(upload.id, data=b"second")
    first = client.uploads.parts.create(upload.id, data=b"first ")
    assert first.upload_id == upload.id
    md5 = hashlib.md5(WHOLE).hexdigest()
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=md5)
    strict(Upload, done.to_dict())
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).read() == WHOLE
    assert list((server.data_dir / "files" / "parts").iterdir()) == []
    with pytest.raises(openai.BadRequestError, match="The upload is completed"):
        client.uploads.parts.create(upload.id, data=b"more")


def test_sdk_sends_a_large_file_in_chunks(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=100_000
    )
    assert done.file is not None
    assert client.files.content(done.file.id).read() == path.read_bytes()


def test_what_was_not_announced_is_refused_and_the_upload_goes_on(client: openai.OpenAI) -> None:
    upload = announced(client)
    part = client.uploads.parts.create(upload.id, data=b"first ")
    with pytest.raises(openai.BadRequestError, match="the parts would have 13 bytes, and 12 were announced"):
        client.uploads.parts.create(upload.id, data=b"longer!")
    with pytest.raises(openai.BadRequestError, match="the parts have 6 bytes, and 12 were announced"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    last = client.uploads.parts.create(upload.id, data=b"second")
    for wrong, words in (([part.id, "part_0"], "no part 'part_0'"), ([part.id, part.id], "each part is allowed once")):
        with pytest.raises(openai.BadRequestError, match=words):
            client.uploads.complete(upload.id, part_ids=wrong)
    with pytest.raises(openai.BadRequestError, match="`md5` is not that of the parts"):
        client.uploads.complete(upload.id, part_ids=[part.id, last.id], md5="0" * 32)
    assert client.uploads.complete(upload.id, part_ids=[part.id, last.id]).status == "completed"


def test_cancelled_upload_leaves_nothing(server: Server, client: openai.OpenAI) -> None:
    upload = announced(client)
    client.uploads.parts.create(upload.id, data=WHOLE)
    assert strict(Upload, client.uploads.cancel(upload.id).to_dict()).status == "cancelled"
    assert list((server.data_dir / "files" / "parts").iterdir()) == []


def test_upload_is_its_owners_and_counts_before_it_is_there(server: Server, client: openai.OpenAI) -> None:
    upload = announced(client, 2 << 20)
    with sdk(server, api_key="two") as other, pytest.raises(openai.NotFoundError, match="There is no upload"):
        other.uploads.cancel(upload.id)
    with pytest.raises(openai.BadRequestError, match="of 2 MB are used, and it does not fit"):
        client.files.create(file=("a", b"x" * 2000), purpose="user_data")
    client.uploads.cancel(upload.id)


def test_upload_that_takes_too_long_ends(tmp_path: Path) -> None:
    now = [1000.0]
    database = Database(None, "files", MIGRATIONS)
    files = FileStore(database, tmp_path, Quota(100, 3), clock=lambda: now[0])
    uploads = UploadStore(database, files)
    source = tmp_path / "source"
    source.write_bytes(b"x")

    async def scenario() -> None:
        upload = await uploads.create("me", "batch", "a", 1, None)
        assert await uploads.add_part(upload.id, "me", source, 1)
        now[0] += 3601
        with pytest.raises(InvalidRequest, match="The upload is expired"):
            await uploads.cancel(upload.id, "me")
        await uploads.drop_expired()
        assert list((tmp_path / "parts").iterdir()) == []
        now[0] += 90_000
        await uploads.drop_expired()
        assert await uploads.cancel(upload.id, "me") is None

    asyncio.run(scenario())
    database.close()


def test_parts_that_cannot_be_joined_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "first").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        joined([tmp_path / "first", tmp_path / "gone"], tmp_path / "incoming", None)
    assert list((tmp_path / "incoming").iterdir()) == []


class Halting(Database):
    """Keeps who reads first waiting with what was read."""

    read_first: asyncio.Event
    go_on: asyncio.Event

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        found = await super().read(work)
        if not self.read_first.is_set():
            self.read_first.set()
            await self.go_on.wait()
        return found


def test_upload_that_is_completed_twice_at_once_is_one_file(tmp_path: Path) -> None:
    database = Halting(tmp_path / "files.sqlite3", "files", MIGRATIONS)
    files = FileStore(database, tmp_path / "files", Quota(100, 3))
    uploads = UploadStore(database, files)
    (source := tmp_path / "source").write_bytes(b"x")

    async def scenario() -> None:
        database.read_first, database.go_on = asyncio.Event(), asyncio.Event()
        upload = await uploads.create("me", "batch", "a", 1, None)
        part = await uploads.add_part(upload.id, "me", source, 1)
        assert part is not None
        late = asyncio.create_task(uploads.complete(upload.id, "me", [part[0]], None))
        await database.read_first.wait()
        assert await uploads.complete(upload.id, "me", [part[0]], None)
        database.go_on.set()
        with pytest.raises(InvalidRequest, match="The upload is completed") as refused:
            await late
        assert refused.value.code == "upload_ended"
        assert list(files.incoming.iterdir()) == []

    asyncio.run(scenario())
    database.close()
