"""A client that does not read costs little memory, delays nobody, and is given up in the end."""

import time
from collections.abc import Iterator

import psutil
import pytest
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving
from support.running.streams import DONE, events, text_of

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 2) as server:
        yield server
        output = server.output()
    assert "Traceback" not in output


def rss(server: Server) -> int:
    pids = [server.process.pid, *server.worker_pids()]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def read_events(raw: bytes) -> list[object]:
    head, _, chunked = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    body = b""
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        body += chunked[: int(size, 16)]
        chunked = chunked[int(size, 16) + 2 :]
    return list(events(body.decode().split("\n")[:-1]))


def test_slow_reader_is_given_up_with_bounded_memory(server: Server) -> None:
    before = rss(server)
    failed = server.stats()["failed"]
    body = chat_body({"tokens": 10**9, "text": "x" * 5000}, stream=True, max_tokens=10**9)
    with RawClient(server, body, receive_buffer=4096) as client:
        client.read_until(b"xxx")
        while server.stats()["failed"] == failed:
            started = time.monotonic()
            assert server.chat("hi").status_code == 200
            assert time.monotonic() - started < 2
            assert rss(server) - before < 16 * MEGABYTE
        server.wait_stats(1, active_requests=0, rows_used=0)
        *chunks, error = read_events(client.read_to_end())
    assert text_of(chunks).startswith("xxx")
    assert DONE not in chunks
    assert error["error"]["code"] == "slow_reader"
    assert "reads too slowly" in error["error"]["message"]


def test_slow_reader_of_small_tokens_loses_nothing(server: Server) -> None:
    tokens = 40_000
    before = rss(server)
    served = server.stats()["served"]
    options = {"max_tokens": tokens, "stream_options": {"include_usage": True}}
    body = chat_body({"tokens": tokens, "text": "é"}, stream=True, **options)
    with RawClient(server, body, receive_buffer=4096) as client:
        client.read_until(b"data: ")
        server.wait_stats(served=served + 1)
        assert rss(server) - before < 16 * MEGABYTE
        *chunks, usage, done = read_events(client.read_to_end())
    assert done == DONE
    assert text_of(chunks) == "é" * tokens
    assert usage["usage"]["completion_tokens"] == tokens
    assert len(chunks) < tokens / 2, "what a reader has not read is merged"
