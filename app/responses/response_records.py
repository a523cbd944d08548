"""Responses as they are kept, and back."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException

from mlx_server.app.encoders import sse
from mlx_server.app.responses.conversation_store import ConversationTooLargeError, StoredItem
from mlx_server.app.responses.response_memory import ResponseMemory
from mlx_server.app.responses.response_store import ChainTooLongError, Record, ResponseStore
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai import responses_answer as answer
from mlx_server.schemas.openai.responses import Turn
from mlx_server.schemas.openai.responses_items import Item

PREVIOUS = "previous_response_id"
LOST = answer.ResponseError("server_error", "The server stopped before this response was made.")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResponseSaver:
    """Where what becomes of a request is kept: the response if it is `stored`, its items in its conversation, and in
    the `memory` of its connection."""

    store: ResponseStore | None
    owner: str
    turn: Turn
    memory: ResponseMemory | None
    stored: bool

    async def save(self, response: answer.Response, events: bytes = b"", *, known: bool = False) -> bool:
        """Keep a response as it is now; False if it could not be kept. What has been answered stays answered: a full
        disk is a line in the log. One that the store has `known` and has no more was deleted, and stays so."""
        whole = response.status in ("completed", "incomplete")
        if self.memory is not None and whole and response.conversation is None:
            self.memory.remember(response.id, self.said(response))
        return await self.keep(response, events, known=known)

    async def keep(self, response: answer.Response, events: bytes, *, known: bool) -> bool:
        """The same again, where it could not be kept; its connection knows it already."""
        if self.store is None:
            return True
        whole = response.status in ("completed", "incomplete")
        try:
            if self.stored:
                record = self._record(response, events)
                await (self.store.replace(record) if known else self.store.put(record))
            if response.conversation is not None and whole:
                said = to_stored_items((*self.turn.items, *response.output))
                await self.store.conversations.add(response.conversation.id, self.owner, said)
        except sqlite3.Error as error:
            log.error("a response could not be kept: %s", error)
            return False
        return True

    def said(self, response: answer.Response) -> tuple[Item, ...]:
        """All that was said up to a response and in it."""
        return (*self.turn.earlier, *self.turn.items, *response.output)

    def _record(self, response: answer.Response, events: bytes) -> Record:
        encoded = msgspec.json.encode(response), msgspec.json.encode(self.turn.items)
        ids = tuple(item.id for item in (*self.turn.items, *response.output))
        return Record(response.id, self.owner, response.previous_response_id, *encoded, events, ids)


def to_stored_items(items: Iterable[Item]) -> list[StoredItem]:
    """Items as a conversation keeps them."""
    return [(item.id, msgspec.json.encode(item)) for item in items]


def response_of(record: Record) -> answer.Response:
    """The response. One that is still being made can only be read from here if nobody makes it any more."""
    response = answer.decoder.decode(record.response)
    if response.status in answer.ENDS:
        return response
    return msgspec.structs.replace(response, status="failed", error=LOST)


def events_of(record: Record) -> list[bytes]:
    """The events of its stream, by their numbers; none if it was not streamed without a client."""
    return sse.split(record.events)


def items_of(records: list[Record], *, all_outputs: bool) -> tuple[Item, ...]:
    """The items of a conversation, inputs and outputs; the last response's output only if it is wanted."""
    items: list[Item] = []
    for record in records:
        items += answer.items_decoder.decode(record.items)
        if all_outputs or record is not records[-1]:
            items += answer.decoder.decode(record.response).output
    return tuple(items)


async def find_items(store: ResponseStore, owner: str, ids: Sequence[str], max_bytes: int) -> dict[str, Item]:
    """The items of these ids that are kept in responses or conversations. Raises InvalidRequest."""
    try:
        records = await store.holding(ids, owner, max_bytes)
    except ChainTooLongError:
        message = f"`input`: the responses that it refers to are larger than {max_bytes} bytes."
        raise InvalidRequest(message, "input", "context_length_exceeded") from None
    items = [item for record in records for item in items_of([record], all_outputs=True)]
    items += [answer.item_decoder.decode(item) for item in await store.conversations.holding(ids, owner)]
    return {item.id: item for item in items}


async def conversation_items(store: ResponseStore | None, id_: str, owner: str, max_bytes: int) -> tuple[Item, ...]:
    """All items of a conversation. Raises HTTPException 404, or InvalidRequest if they are too large."""
    try:
        items = await store.conversations.items(id_, owner, max_bytes) if store is not None else None
    except ConversationTooLargeError:
        message = f"`conversation`: it is larger than {max_bytes} bytes; begin a new one."
        raise InvalidRequest(message, "conversation", "context_length_exceeded") from None
    if items is None:
        raise unknown_conversation(id_)
    return tuple(answer.item_decoder.decode(item) for item in items)


def unknown_conversation(id_: str) -> HTTPException:
    """The same answer for what never was, what is gone, and what is another's."""
    return HTTPException(404, f"There is no conversation {id_[:200]!r}; it may have been deleted.")


async def earlier(store: ResponseStore | None, id_: str, owner: str, max_bytes: int) -> tuple[Item, ...]:
    """All that was said up to a response and in it. Raises InvalidRequest if it is not there, or not whole."""
    if store is None:
        raise InvalidRequest(f"`{PREVIOUS}`: this server keeps no responses; send the whole conversation.", PREVIOUS)
    try:
        records = await store.chain(id_, owner, max_bytes)
    except ChainTooLongError:
        message = f"`{PREVIOUS}`: the conversation is larger than {max_bytes} bytes; send what matters of it."
        raise InvalidRequest(message, PREVIOUS, "context_length_exceeded") from None
    if not records:
        raise InvalidRequest(
            f"`{PREVIOUS}`: there is no response {id_!r}; it may have been deleted, or not stored.",
            PREVIOUS,
            "previous_response_not_found",
        )
    if (gone := records[0].previous) is not None:
        raise InvalidRequest(
            f"`{PREVIOUS}`: the response {gone!r}, which the conversation goes back to, is not stored any more.",
            PREVIOUS,
            "previous_response_not_found",
        )
    if (other := response_of(records[-1]).conversation) is not None:
        message = f"`{PREVIOUS}`: {id_!r} belongs to the conversation {other.id!r}; send that as `conversation`."
        raise InvalidRequest(message, PREVIOUS)
    return items_of(records, all_outputs=True)
