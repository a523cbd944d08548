"""Responses with embeddings or scores: complete, and sent in pieces where they are large."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Protocol

from starlette.types import Receive, Scope, Send

from mlx_server.app.http import errors
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.responder import WatchedResponse, start_of
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.messages import Failed, Finished, Score, Vector


class ResultsEncoder(Protocol):
    """Writes results in one API's words."""

    def pieces(self, results: list[Vector | Score], finished: Finished) -> Iterator[bytes]:
        """The answer as JSON, of results in the order of the request. Making one piece takes about a millisecond."""


class ResultsResponse(WatchedResponse):
    """Answers one ticket. Whoever leaves before the end frees its place, at once.

    Nothing is sent before all results are there, so a failure is a status code and a lost worker can be replaced.
    """

    def __init__(self, queue: Dispatcher, ticket: Ticket, encoder: ResultsEncoder, headers: Mapping[str, str]) -> None:
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._headers = headers

    def leave(self) -> None:
        """Free the place, if it is still held."""
        self._queue.cancel(self._ticket)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A refusal, or all results."""
        record_of(scope).ticket = self._ticket
        events = await self._ticket.mailbox.get()
        results = sorted((e for e in events if isinstance(e, Vector | Score)), key=lambda result: result.index)
        match events[-1]:
            case Failed() as failed:
                await errors.of_failure(failed).response(scope)(scope, receive, send)
            case Finished() as finished:
                await self._send(send, self._encoder.pieces(results, finished))
            case last:
                raise AssertionError(f"a ticket ended with {type(last).__name__}")

    async def _send(self, send: Send, pieces: Iterator[bytes]) -> None:
        """Each piece is made once the client has room for it, and others have their turn between two."""
        piece, following = next(pieces), next(pieces, None)
        length = {"Content-Length": str(len(piece))} if following is None else {}
        await send(start_of("application/json", {**length, **self._headers}))
        while following is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
            piece, following = following, next(pieces, None)
        await send({"type": "http.response.body", "body": piece})
