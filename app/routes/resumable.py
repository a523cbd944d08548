"""`Idempotency-Key` and `Last-Event-ID`: a request that is sent again joins its answer instead of starting another."""

from __future__ import annotations

import hashlib
import re
from contextlib import aclosing, suppress

import msgspec
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.body import read_body
from mlx_server.app.http.responder import EVENTS, WatchedResponse
from mlx_server.app.http.services import services
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.app.middleware.last_resort import LastResortMiddleware
from mlx_server.app.responses.kept_answers import AnswerKey, KeptAnswer, KeptAnswers
from mlx_server.schemas.internal.errors import InvalidRequest

KEY = "Idempotency-Key"
LAST = "Last-Event-ID"
JOINED = "Idempotent-Replayed"
"""Header of an answer that was begun for an earlier request."""

ACCEPTED = re.compile(r"[\x21-\x7e]{1,255}")
NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)


class ResumableMiddleware:
    """Round one endpoint. Without an `Idempotency-Key` it changes nothing.

    With one the answer is made apart from its connection, and the events of a stream have ids. The same request with
    the same key joins it from the beginning, or after the event that `Last-Event-ID` names.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._contained = LastResortMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or join an earlier one's answer. Raises InvalidRequest, or what `read_body` raises."""
        headers = Headers(scope=scope)
        after = last_event(headers)
        if (given := headers.get(KEY)) is None:
            if after is not None:
                raise InvalidRequest(f"`{LAST}` needs the `{KEY}` of the request whose stream it is.", LAST)
            await self._app(scope, receive, send)
            return
        if not ACCEPTED.fullmatch(given):
            raise InvalidRequest(f"`{KEY}` must have 1 to 255 visible ASCII characters.", KEY)
        request = Request(scope, receive)
        shared = services(request)
        body = await read_body(request, shared.settings.max_body_bytes)
        key = AnswerKey(scope[OWNER], scope["path"], given)
        answer = shared.kept_answers.get(key)
        fingerprint = fingerprint_of(body)
        answer = checked(answer, fingerprint, after)
        joins = answer is not None
        if answer is None:
            answer = KeptAnswer(scope, body, fingerprint)
            shared.kept_answers.start(key, answer, self._contained)
        await JoinedAnswer(shared.kept_answers, key, answer, after or 0, joins=joins)(scope, receive, send)


RESUMABLE = [Middleware(ResumableMiddleware)]


def last_event(headers: Headers) -> int | None:
    """The number of the last event that a client has. Raises InvalidRequest."""
    given = headers.get(LAST)
    if given is None:
        return None
    if not NUMBER.fullmatch(given):
        raise InvalidRequest(f"`{LAST}` must be the id of an event, a whole number.", LAST)
    return int(given)


def fingerprint_of(body: bytes) -> bytes:
    """Equal for the same JSON, however it is written."""
    with suppress(msgspec.DecodeError, RecursionError):
        body = msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    return hashlib.sha256(body).digest()


def checked(answer: KeptAnswer | None, fingerprint: bytes, after: int | None) -> KeptAnswer | None:
    """The answer that a request may join; None where a new one is to be made. Raises InvalidRequest."""
    if answer is not None and answer.fingerprint != fingerprint:
        message = f"`{KEY}`: this key came with another body before. Use a new key for a new request."
        raise InvalidRequest(message, KEY, "idempotency_key_reused")
    if answer is not None and after is None and answer.is_cut:
        return None
    if (answer is None and after is not None) or (answer is not None and not answer.has_after(after or 0)):
        message = f"`{LAST}`: what follows this event is not kept (any more). Use a new `{KEY}` for a new answer."
        raise InvalidRequest(message, LAST, "answer_not_kept")
    return answer


class JoinedAnswer(WatchedResponse):
    """A kept answer, from some event on. Who leaves does not end it."""

    def __init__(self, kept: KeptAnswers, key: AnswerKey, answer: KeptAnswer, after: int, *, joins: bool) -> None:
        self._kept = kept
        self._key = key
        self._answer = answer
        self._after = after
        self._joins = joins

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Its head, and its pieces as they come; an answer that is given up has no end."""
        answer = self._answer
        with self._kept.reading(self._key, answer):
            if (head := await answer.begun()) is None:
                return
            if self._joins:
                record_of(scope).joins(record_of(answer.scope))
                head = {**head, "headers": [*head["headers"], (JOINED.lower().encode(), b"true")]}
            scope[EVENTS] = answer.scope.get(EVENTS, False)
            await send(head)
            async with aclosing(answer.after(self._after)) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if answer.complete:
                await send({"type": "http.response.body"})
