import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator

import pytest
from support.running.queues import request

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.messages import (
    Cancel,
    Event,
    FromWorker,
    Heartbeat,
    Loading,
    Step,
    Submit,
    Text,
    ToWorker,
)
from mlx_server.workers.channel import WRITE_BUFFER_BYTES, Channel


def _frame(message: FromWorker) -> bytes:
    body = messages.encode(message)
    return len(body).to_bytes(4, "big") + body


def _messages(rng: random.Random) -> Iterator[FromWorker]:
    for number in range(60):
        match rng.randrange(3):
            case 0:
                yield Heartbeat(rng.random())
            case 1:
                yield Loading("x" * rng.randrange(300), number)
            case _:
                events: list[Event] = [Text(number, i, "ü" * rng.randrange(50), i) for i in range(rng.randrange(20))]
                yield Step(events)


@pytest.mark.parametrize("seed", range(20))
def test_channel_finds_messages_however_the_stream_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    sent = list(_messages(rng))
    stream = b"".join(map(_frame, sent))
    received: list[FromWorker] = []
    channel = Channel(messages.decode_from_worker, received.append, lambda: None)
    longest = rng.choice((1, 3, 7, 100, 5000))
    while stream:
        cut = rng.randint(1, longest)
        channel.data_received(stream[:cut])
        stream = stream[cut:]
    assert received == sent


def test_channel_hands_a_message_over_with_its_last_byte() -> None:
    received: list[FromWorker] = []
    channel = Channel(messages.decode_from_worker, received.append, lambda: None)
    frame = _frame(Heartbeat(1.5))
    for byte in frame[:-1]:
        channel.data_received(bytes([byte]))
    assert received == []
    channel.data_received(frame[-1:] + frame[:2])
    assert received == [Heartbeat(1.5)]
    channel.data_received(frame[2:])
    assert received == [Heartbeat(1.5)] * 2


class Pair:
    """Two channels over one socket pair, in one event loop."""

    def __init__(self, on_writable: Callable[[bool], None] = lambda _: None) -> None:
        self.at_worker: asyncio.Queue[ToWorker] = asyncio.Queue()
        self.at_parent: asyncio.Queue[FromWorker] = asyncio.Queue()
        self.worker_closed, self.parent_closed = asyncio.Event(), asyncio.Event()
        self.parent = Channel(
            messages.decode_from_worker, self.at_parent.put_nowait, self.parent_closed.set, lambda _: None
        )
        self.worker = Channel(messages.decode_to_worker, self.at_worker.put_nowait, self.worker_closed.set, on_writable)
        self.sockets = socket.socketpair()

    async def __aenter__(self) -> "Pair":
        loop = asyncio.get_running_loop()
        for channel, sock in zip((self.parent, self.worker), self.sockets, strict=True):
            sock.setblocking(False)
            await loop.create_connection(lambda channel=channel: channel, sock=sock)  # type: ignore[misc]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.parent.close()
        self.worker.close()
        async with asyncio.timeout(5):
            await self.parent_closed.wait()
            await self.worker_closed.wait()


def test_channel_carries_messages_both_ways_in_order() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(10), Pair() as pair:
            for number in range(100):
                pair.parent.send(Cancel(number))
                pair.worker.send(Heartbeat(number))
            assert [await pair.at_worker.get() for _ in range(100)] == [Cancel(n) for n in range(100)]
            assert [await pair.at_parent.get() for _ in range(100)] == [Heartbeat(n) for n in range(100)]

    asyncio.run(scenario())


def test_channel_carries_a_message_larger_than_any_buffer() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(30), Pair() as pair:
            large = Step([Text(1, 0, "x" * (32 << 20), 1)])
            pair.worker.send(large)
            pair.worker.send(Heartbeat(0.0))
            assert await pair.at_parent.get() == large
            assert await pair.at_parent.get() == Heartbeat(0.0)

    asyncio.run(scenario())


def test_channel_tells_each_end_once_that_the_other_is_gone() -> None:
    async def scenario() -> None:
        closed: list[str] = []
        here, there = socket.socketpair()
        here.setblocking(False)
        gone = asyncio.Event()

        def on_closed() -> None:
            closed.append("closed")
            gone.set()

        channel = Channel(messages.decode_from_worker, lambda _: None, on_closed)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=here)
        there.close()
        await asyncio.wait_for(gone.wait(), 5)
        channel.send(Heartbeat(0.0))
        channel.close()
        channel.close()
        assert closed == ["closed"]

    asyncio.run(scenario())


def test_channel_delivers_what_was_sent_before_it_was_closed() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(10), Pair() as pair:
            pair.parent.send(Submit(1, request(), 1))
            pair.parent.close()
            await pair.worker_closed.wait()
            assert pair.at_worker.get_nowait() == Submit(1, request(), 1)

    asyncio.run(scenario())


def test_send_before_the_connection_or_after_the_end_is_lost_without_a_word() -> None:
    channel = Channel(messages.decode_from_worker, lambda _: None, lambda: None)
    channel.send(Heartbeat(0.0))
    channel.close()


def test_channel_tells_the_writer_to_wait_while_the_reader_lags() -> None:
    async def scenario() -> None:
        changes: asyncio.Queue[bool] = asyncio.Queue()
        sent = 0
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        loop = asyncio.get_running_loop()
        channel = Channel(messages.decode_to_worker, lambda _: None, lambda: None, changes.put_nowait)
        with there:
            transport, _ = await loop.create_connection(lambda: channel, sock=here)
            while changes.empty():
                channel.send(Heartbeat(float(sent)))
                sent += 1
                await asyncio.sleep(0)
            assert changes.get_nowait() is False
            assert WRITE_BUFFER_BYTES < transport.get_write_buffer_size() < 2 * WRITE_BUFFER_BYTES
            received = bytearray()
            while len(received) < sent * len(_frame(Heartbeat(0.0))):
                received += await asyncio.wait_for(loop.sock_recv(there, 1 << 16), 5)
            assert await asyncio.wait_for(changes.get(), 5) is True
            channel.close()
            with contextlib.suppress(ConnectionError):
                assert await loop.sock_recv(there, 1) == b""

    asyncio.run(scenario())
