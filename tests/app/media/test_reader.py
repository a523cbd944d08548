"""The files of one request, and the limits that they share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.running.hosts import Host, host, reply

from mlx_server.app.config.settings import MediaAccess
from mlx_server.app.media.reader import MediaReader
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, MediaKind, Remote

ACCESS = MediaAccess(private_urls=True, max_bytes=1000, max_files=8)


def media(*urls: str, kind: MediaKind = "image") -> list[Media]:
    return [Media(kind, Remote(url), 0, f"content[{i}]") for i, url in enumerate(urls)]


def read(given: list[Media], most_bytes: int = 1 << 20, **access: Any) -> dict[Remote, bytes]:
    return asyncio.run(MediaReader(replace(ACCESS, **access), most_bytes).read(given))


def refusal(given: list[Media], most_bytes: int = 1 << 20, **access: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(given, most_bytes, **access)
    return caught.value


async def sized(path: str, writer: asyncio.StreamWriter) -> None:
    """As many bytes as the path says."""
    reply(writer, b"x" * int(path.strip("/")))


def beside(answer: Any, scenario: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), host(answer) as there:
            await scenario(there)

    asyncio.run(run())


def test_every_source_is_read_once() -> None:
    async def scenario(there: Host) -> None:
        url = f"http://127.0.0.1:{there.port}"
        given = media(f"{url}/3", "data:,a", f"{url}/4", f"{url}/3", "data:,a")
        files = await MediaReader(ACCESS, 1 << 20).read(given)
        assert files == {Remote(f"{url}/3"): b"xxx", Remote(f"{url}/4"): b"xxxx", Remote("data:,a"): b"a"}
        assert len(there.asked) == 2

    beside(sized, scenario)


def test_a_file_that_nobody_keeps_cannot_be_had() -> None:
    assert refusal(media("file_id:file-1")).message == "`content[0]`: there is no file 'file-1'."


def test_files_are_counted() -> None:
    assert len(read(media("data:,a", "data:,b"), max_files=2)) == 2
    assert len(read(media("data:,a", "data:,a", "data:,a"), max_files=1)) == 1
    error = refusal(media("data:,a", "data:,b", "data:,c"), max_files=2)
    assert error.param == "content[2]"
    assert error.message == "`content[2]`: at most 2 files are allowed in a request (--max-media-files)."
    assert refusal(media("data:,a"), max_files=0).param == "content[0]"


def test_files_are_not_shown_any_number_of_times() -> None:
    given = media("data:,b", *(8 * ["data:,a"]), "data:,b")
    assert len(read(given[:8], max_files=2)) == 2
    error = refusal(given, max_files=2)
    assert error.param == "content[8]"
    assert error.message == "`content[8]`: files may be shown at most 8 times in a request (4 * --max-media-files)."


def test_each_file_is_bounded() -> None:
    error = refusal(media("data:,ab", "data:,abc"), max_bytes=2)
    assert error.message == "`content[1]`: the file is larger than 2 bytes (--max-media-mb)."
    bytes_ = [Media("image", b"abc", 0, "input[0]")]
    assert refusal(bytes_, max_bytes=2).param == "input[0]"
    assert read(bytes_, max_bytes=3) == {}


def test_all_files_together_are_bounded() -> None:
    async def scenario(there: Host) -> None:
        given = media(*[f"http://127.0.0.1:{there.port}/{600 + i}" for i in range(3)])
        assert len(await MediaReader(ACCESS, 2000).read(given)) == 3
        with pytest.raises(InvalidRequest, match=r"larger than 1500 bytes in all \(--max-body-bytes\)"):
            await MediaReader(ACCESS, 1500).read(given)
        await there.quiet.wait()

    beside(sized, scenario)


@pytest.mark.parametrize(
    ("url", "kind", "allowed"),
    [
        ("data:image/png,a", "image", True),
        ("data:IMAGE/PNG,a", "image", True),
        ("data:application/octet-stream,a", "image", True),
        ("data:,a", "audio", True),
        ("data:audio/wav,a", "audio", True),
        ("data:video/mp4,a", "video", True),
        ("data:text/html,a", "image", False),
        ("data:text/plain,a", "image", False),
        ("data:image/png,a", "audio", False),
        ("data:audio/wav,a", "video", False),
    ],
)
def test_data_say_what_they_are(url: str, kind: MediaKind, allowed: bool) -> None:
    if allowed:
        assert read(media(url, kind=kind)) == {Remote(url): b"a"}
    else:
        assert "is no type of" in refusal(media(url, kind=kind)).message


def test_the_network_may_be_switched_off() -> None:
    error = refusal(media("https://example.com/a.png"), urls=False)
    assert "--no-media-urls" in error.message
    assert read(media("data:,a"), urls=False) == {Remote("data:,a"): b"a"}


def test_private_hosts_are_refused_unless_they_are_allowed() -> None:
    refused = refusal(media("http://127.0.0.1:9/"), private_urls=False).message
    assert "no public address (--private-media-urls allows" in refused
    assert "can't be connected to" in refusal(media("http://127.0.0.1:9/"), private_urls=True).message


def test_time_is_for_all_files_of_a_request() -> None:
    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def scenario(there: Host) -> None:
        reader = MediaReader(replace(ACCESS, timeout_s=1.0), 1 << 20)
        given = media(*[f"http://127.0.0.1:{there.port}/{i}" for i in range(6)])
        with pytest.raises(InvalidRequest, match=r"it took longer than 1 seconds \(--media-timeout\)"):
            await reader.read(given)
        await there.quiet.wait()
        assert len(there.asked) == 4  # as many as are fetched at once

    beside(drip, scenario)


def test_the_first_failure_ends_the_other_fetches() -> None:
    async def one_hangs(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/hang":
            hanging.set()
            await asyncio.Event().wait()
        await hanging.wait()
        reply(writer, b"", "500 Internal Server Error")

    hanging = asyncio.Event()

    async def scenario(there: Host) -> None:
        url = f"http://127.0.0.1:{there.port}"
        with pytest.raises(InvalidRequest) as caught:
            await MediaReader(ACCESS, 1 << 20).read(media(f"{url}/hang", f"{url}/fail"))
        assert caught.value.param == "content[1]"

    beside(one_hangs, scenario)


def test_whoever_leaves_ends_all_fetches() -> None:
    async def hang(path: str, writer: asyncio.StreamWriter) -> None:
        if len(asked) == 1:
            both.set()
        asked.append(path)
        await writer.drain()
        await asyncio.Event().wait()

    asked: list[str] = []
    both = asyncio.Event()

    async def scenario(there: Host) -> None:
        url = f"http://127.0.0.1:{there.port}"
        before = asyncio.all_tasks()
        task = asyncio.create_task(MediaReader(ACCESS, 1 << 20).read(media(f"{url}/a", f"{url}/b")))
        await both.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = asyncio.all_tasks() - before
        assert all("Host.serve" in str(task.get_coro()) for task in left)

    beside(hang, scenario)
