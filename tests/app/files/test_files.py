"""OpenAI's SDK on `/v1/files`: files come to disk, are their owner's alone, and are kept whole or not at all."""

import asyncio
import errno
import os
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from openai.types import FileDeleted, FileObject
from support.responses import strict
from support.running.clients import sdk
from support.running.raw import connect
from support.running.servers import SCRIPTED, Server, serving

from mlx_server.app.files.file_store import FileStore, Quota, new_file
from mlx_server.app.files.tables import MIGRATIONS
from mlx_server.app.files.upkeep import Upkeep
from mlx_server.app.files.upload_store import UploadStore
from mlx_server.app.storage.database import Database
from mlx_server.schemas.internal.errors import InvalidRequest

LINE = b'{"custom_id": "a"}\n'
DAY = 86_400
T = TypeVar("T")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *SCRIPTED,
        "--api-key",
        "one",
        "--api-key",
        "two",
        "--file-quota-count",
        7,
        "--max-upload-mb",
        1,
        until=Server.wait_listening,
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with sdk(server, api_key="one") as client:
        yield client
        for file in client.files.list():
            client.files.delete(file.id)


def kept_on_disk(server: Server) -> list[Path]:
    return [path for path in (server.data_dir / "files").rglob("*") if path.is_file()]


def test_file_is_kept_read_listed_and_deleted(server: Server, client: openai.OpenAI) -> None:
    made = client.files.create(file=("lines.jsonl", LINE * 3), purpose="batch")
    assert (made.filename, made.bytes, made.purpose, made.status) == ("lines.jsonl", 57, "batch", "processed")
    assert made.expires_at == made.created_at + 30 * DAY
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == LINE * 3
    assert [file.id for file in client.files.list()] == [made.id]
    answer = server.get(f"/v1/files/{made.id}", headers={"x-api-key": "one"})
    assert strict(FileObject, answer.json()) == made
    assert strict(FileDeleted, client.files.delete(made.id).to_dict()).deleted
    with pytest.raises(openai.NotFoundError, match=f"There is no file '{made.id}'"):
        client.files.content(made.id)
    assert kept_on_disk(server) == []


def test_content_is_a_download_that_can_be_resumed(server: Server, client: openai.OpenAI) -> None:
    made = client.files.create(file=("a b.html", b"<script>1</script>"), purpose="user_data")
    answer = server.get(f"/v1/files/{made.id}/content", headers={"x-api-key": "one", "range": "bytes=8-"})
    assert (answer.status_code, answer.content) == (206, b"1</script>")
    assert answer.headers["content-disposition"].startswith("attachment;")


def test_pages_follow_each_other_in_both_orders(client: openai.OpenAI) -> None:
    names = [client.files.create(file=(f"{n}.txt", b"x"), purpose="user_data").filename for n in range(5)]
    client.files.create(file=("other", b"x"), purpose="vision")
    by_pages = client.files.list(limit=2, order="asc", purpose="user_data")
    assert [file.filename for file in by_pages] == names
    assert [file.filename for file in client.files.list(limit=2, purpose="user_data")] == names[::-1]
    with pytest.raises(openai.BadRequestError, match="`after`: there is no file 'file-0'"):
        client.files.list(after="file-0")
    with pytest.raises(openai.BadRequestError, match="`purpose`: allowed are batch, user_data, vision, batch_output"):
        client.files.list(purpose="fine-tune")


def test_nobody_sees_the_file_of_another_key(server: Server, client: openai.OpenAI) -> None:
    made = client.files.create(file=("a.txt", b"secret"), purpose="user_data")
    with sdk(server, api_key="two") as other:
        assert list(other.files.list()) == []
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
    assert client.files.content(made.id).read() == b"secret"


def test_file_may_end_by_itself(client: openai.OpenAI) -> None:
    ends: Any = {"anchor": "created_at", "seconds": 3600}
    made = client.files.create(file=("a", b"x"), purpose="vision", expires_after=ends)
    assert made.expires_at == made.created_at + 3600
    for wrong, field in (({**ends, "seconds": 59}, "seconds"), ({"anchor": "created_at"}, "seconds")):
        with pytest.raises(openai.BadRequestError, match=rf"`expires_after\[{field}\]`") as raised:
            client.files.create(file=("a", b"x"), purpose="vision", expires_after=wrong)
        assert raised.value.param == f"expires_after[{field}]"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"data": {"purpose": "fine-tune"}, "files": {"file": ("a", b"x")}}, "purpose"),
        ({"files": {"file": ("a", b"x")}}, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": ("a", b"x")}}, "file"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("", b"x")}}, "file"),
    ],
    ids=["wrong purpose", "no purpose", "no file", "no name"],
)
def test_bad_form_is_refused_by_the_name_of_its_field(server: Server, form: dict[str, Any], param: str) -> None:
    answer = server.http.post(f"{server.url}/files", headers={"x-api-key": "one"}, **form)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert kept_on_disk(server) == []


def test_more_files_than_the_quota_are_refused(server: Server, client: openai.OpenAI) -> None:
    for n in range(7):
        client.files.create(file=(f"{n}", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="7 files are kept already") as raised:
        client.files.create(file=("more", b"x"), purpose="user_data")
    assert raised.value.code == "file_quota_exceeded"
    with sdk(server, api_key="two") as other:
        other.files.delete(other.files.create(file=("mine", b"x"), purpose="user_data").id)
    assert len(kept_on_disk(server)) == 7


def test_file_larger_than_allowed_is_refused(server: Server, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="larger than 1048576 bytes") as raised:
        client.files.create(file=("large", bytes(2 << 20)), purpose="user_data")
    assert raised.value.status_code == 413
    assert kept_on_disk(server) == []


def test_upload_that_breaks_off_leaves_nothing(server: Server, client: openai.OpenAI) -> None:
    head = (
        b"POST /v1/files HTTP/1.1\r\nHost: test\r\nX-Api-Key: one\r\nContent-Length: 500000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    leaving = connect(server)
    leaving.sendall(head + bytes(200_000))
    server.wait_until(lambda: kept_on_disk(server))
    leaving.shutdown(socket.SHUT_RDWR)
    leaving.close()
    server.wait_until(lambda: not kept_on_disk(server))
    assert list(client.files.list()) == []


def test_files_survive_a_kill(launch: Callable[..., Server], tmp_path: Path) -> None:
    where = {"MLX_SERVER_DATA_DIR": str(tmp_path)}
    first = launch(*SCRIPTED, env=where)
    with sdk(first) as client:
        made = client.files.create(file=("a.txt", b"kept"), purpose="user_data")
    first.process.kill()
    first.process.wait()
    with sdk(launch(*SCRIPTED, env=where)) as client:
        assert client.files.retrieve(made.id) == made
        assert client.files.content(made.id).read() == b"kept"


def test_sweep_forgets_what_has_come_to_its_end(tmp_path: Path) -> None:
    now = [1000.0]
    database = Database(None, "files", MIGRATIONS)
    files = FileStore(database, tmp_path, Quota(100, 3), clock=lambda: now[0])
    upkeep = Upkeep(database, files, UploadStore(database, files))
    source = tmp_path / "source"
    source.write_bytes(b"x" * 60)

    async def scenario() -> None:
        short = files.new("me", "batch", "a", 60, 3600)
        await files.keep(short, source)
        with pytest.raises(InvalidRequest, match="0 of 0 MB are used"):
            await files.keep(files.new("me", "batch", "b", 60, None), source)
        now[0] += 3600
        assert await files.get(short.id, "me") is None
        stays = files.new("me", "batch", "b", 60, None)
        await files.keep(stays, source)
        assert files.path(short.id).exists()
        await upkeep.sweep()
        assert not files.path(short.id).exists()
        assert await files.get(stays.id, "me") == stays

    asyncio.run(scenario())
    database.close()


def test_strays_are_deleted_once_they_are_old(tmp_path: Path) -> None:
    database = Database(tmp_path / "files.sqlite3", "files", MIGRATIONS)
    files = FileStore(database, tmp_path / "files", Quota(100, 3))
    (source := tmp_path / "source").write_bytes(b"x")
    long_ago = source.stat().st_mtime - 2 * DAY
    for name, is_old in (("new", False), ("old", True)):
        (files.incoming / name).touch()
        if is_old:
            os.utime(files.incoming / name, (long_ago, long_ago))
    os.utime(source, (long_ago, long_ago))

    async def scenario() -> None:
        await files.keep(files.new("me", "batch", "a", 1, None), source)
        await Upkeep(database, files, UploadStore(database, files)).drop_strays()
        assert [path.name for path in files.incoming.iterdir()] == ["new"]
        assert len([path for path in files.folder.iterdir() if path.is_file()]) == 1

    asyncio.run(scenario())
    database.close()


class Busy(Database):
    """Is asked for something else right after something."""

    then: Callable[[], Awaitable[None]] | None = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        found = await super().read(work)
        await self._go_on()
        return found

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        found = await super().write(work)
        await self._go_on()
        return found

    async def _go_on(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            await then()


def test_file_that_is_kept_while_strays_are_looked_for_stays(tmp_path: Path) -> None:
    """A batch's results are a file of old content from the moment on at which it ends."""
    database = Busy(tmp_path / "files.sqlite3", "files", MIGRATIONS)
    files = FileStore(database, tmp_path / "files", Quota(100, 3))
    (source := tmp_path / "source").write_bytes(b"x")
    os.utime(source, (0, 0))
    file = files.new("me", "batch_output", "a", 1, None)

    async def scenario() -> None:
        database.then = lambda: files.keep(file, source)
        await Upkeep(database, files, UploadStore(database, files)).drop_strays()
        assert await files.get(file.id, "me") == file
        assert files.path(file.id).read_bytes() == b"x"

    asyncio.run(scenario())
    database.close()


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), new_file(tmp_path) as path:  # noqa: PT012 - the work that fails
        path.write_bytes(b"some")
        raise OSError(errno.ENOSPC, "the disk is full")
    assert list(tmp_path.iterdir()) == []
