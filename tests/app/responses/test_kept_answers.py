"""How much of answers is kept, and who waits for whom."""

import asyncio

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_server.app.responses.kept_answers import (
    MOST_BYTES,
    MOST_IDLE_BYTES,
    OWN_BYTES,
    AnswerKey,
    KeptAnswer,
    KeptAnswers,
)
from mlx_server.app.routes.resumable import checked
from mlx_server.schemas.internal.errors import InvalidRequest

EVENT = b"data: " + b"x" * (1 << 20) + b"\n\n"
EVENTS = 10
KEPT = MOST_BYTES // len(EVENT)
BODY = b"x" * MOST_BYTES


def said(content_type: bytes, parts: list[bytes]) -> ASGIApp:
    """An application that says this."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})
        for left, part in zip(reversed(range(len(parts))), parts, strict=True):
            await send({"type": "http.response.body", "body": part, "more_body": left > 0})

    return app


STREAM = said(b"text/event-stream", [EVENT] * EVENTS)


def one() -> KeptAnswer:
    return KeptAnswer({"type": "http"}, b"{}", b"")


def test_end_of_a_long_stream_is_kept() -> None:
    async def scenario() -> None:
        answer = one()
        await answer.make(STREAM)
        assert answer.complete
        assert answer.size <= OWN_BYTES + MOST_BYTES
        assert not answer.has_after(0)
        assert not answer.has_after(EVENTS - KEPT - 1)
        assert [piece async for piece in answer.after(EVENTS - KEPT)] == [
            b"id: %d\n%b" % (number, EVENT) for number in range(EVENTS - KEPT + 1, EVENTS + 1)
        ]

    asyncio.run(scenario())


def test_nothing_goes_that_a_reader_lacks() -> None:
    """The application waits for the slowest."""

    async def scenario() -> None:
        answer = one()
        pieces = answer.after(0)
        making = asyncio.ensure_future(answer.make(STREAM))
        first = await anext(pieces)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not making.done()
        assert answer.size <= OWN_BYTES + MOST_BYTES + 2 * len(EVENT)
        assert [first, *[piece async for piece in pieces]] == [b"id: %d\n%b" % (n + 1, EVENT) for n in range(EVENTS)]
        await making

    asyncio.run(scenario())


def test_long_answer_that_is_no_stream_is_made_anew() -> None:
    """Whoever reads it has all of it; whoever comes later can't name what is missing."""
    parts = [bytes([part]) * (1 << 20) for part in range(EVENTS)]

    async def scenario() -> None:
        answer = one()
        pieces = answer.after(0)
        making = asyncio.ensure_future(answer.make(said(b"application/json", parts)))
        assert [piece async for piece in pieces] == parts
        await making
        assert answer.size <= OWN_BYTES + MOST_BYTES
        assert checked(answer, b"", None) is None
        with pytest.raises(InvalidRequest, match="Last-Event-ID"):
            checked(answer, b"", 1)
        with pytest.raises(InvalidRequest, match="another body"):
            checked(answer, b"other", None)

    asyncio.run(scenario())


def test_answer_whose_key_another_one_has_ends_with_its_readers() -> None:

    async def scenario() -> None:
        kept = KeptAnswers(60)
        key = AnswerKey("owner", "/path", "key")
        first, second = one(), one()
        kept.start(key, first, said(b"application/json", [BODY] * 3))
        pieces = first.after(0)
        with kept.reading(key, first):
            assert await anext(pieces) == BODY
            kept.start(key, second, said(b"application/json", [b"{}"]))
            assert not first.abandoned.is_set()
            assert [piece async for piece in pieces] == [BODY] * 2
        assert first.abandoned.is_set()
        assert kept.get(key) is second
        assert not second.abandoned.is_set()
        await kept.close()

    asyncio.run(scenario())


def test_oldest_answers_make_room() -> None:
    async def scenario() -> None:
        kept = KeptAnswers(60)
        keys = [AnswerKey("owner", "/path", str(number)) for number in range(MOST_IDLE_BYTES // MOST_BYTES + 1)]
        for key in keys:
            answer = one()
            kept.start(key, answer, said(b"application/json", [BODY]))
            with kept.reading(key, answer):
                assert [piece async for piece in answer.after(0)] == [BODY]
        assert [kept.get(key) is not None for key in keys] == [False, False, *[True] * (len(keys) - 2)]
        await kept.close()

    asyncio.run(scenario())
