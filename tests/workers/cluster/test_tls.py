import asyncio
import socket
import ssl

from mlx_server.workers.cluster.meeting import proven
from mlx_server.workers.cluster.tls import Identity, context_of, make_identity


async def _said(called: Identity, expects: Identity, calls: Identity, trusts: Identity) -> bytes:
    """What a caller hears from a listener which expects another to call."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    listening = context_of(called, expects.certificate, calls=False)
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=listening)
    async with server:
        port = server.sockets[0].getsockname()[1]
        context = context_of(calls, trusts.certificate, calls=True)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except ssl.SSLError:
            return b"nobody that is known"
        said = await reader.read()
        writer.close()
        return said


def test_two_that_know_each_other_talk() -> None:
    worker, front = make_identity(), make_identity()
    assert asyncio.run(_said(worker, front, front, worker)) == b"hello"


def test_a_stranger_is_told_nothing() -> None:
    worker, front, other = make_identity(), make_identity(), make_identity()
    assert asyncio.run(_said(worker, front, other, worker)) == b""
    assert asyncio.run(_said(worker, front, front, other)) == b"nobody that is known"


def test_who_says_nothing_keeps_nobody_from_being_heard() -> None:
    async def scenario() -> None:
        worker, front = make_identity(), make_identity()
        heard = asyncio.StreamReader()
        channel = asyncio.StreamReaderProtocol(heard)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            address = listener.getsockname()
            silent = [await asyncio.open_connection(*address) for _ in range(2)]
            meeting = asyncio.ensure_future(
                proven(listener, channel, context_of(worker, front.certificate, calls=False))
            )
            context = context_of(front, worker.certificate, calls=True)
            async with asyncio.timeout(2.0):
                _, writer = await asyncio.open_connection(*address, ssl=context)
                await meeting
                writer.write(b"hello")
                assert await heard.readexactly(5) == b"hello"
                assert [await reader.read() for reader, _ in silent] == [b"", b""]
        for each in (writer, *(other for _, other in silent)):
            each.close()

    asyncio.run(scenario())
