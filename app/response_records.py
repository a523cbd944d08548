"""Responses as they are kept, and back."""

from __future__ import annotations

import logging
import sqlite3

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.response_store import ChainTooLongError, Record, ResponseStore
from mlx_server.schemas import openai_responses_answer as answer
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.openai_responses_items import Item

PREVIOUS = "previous_response_id"
LOST = answer.ResponseError("server_error", "The server stopped before this response was made.")

log = logging.getLogger(__name__)


async def keep(
    store: ResponseStore, owner: str, response: answer.Response, items: tuple[Item, ...], events: bytes = b""
) -> None:
    """Keep a response. What has been answered stays answered: a full disk is a line in the log."""
    encoded = msgspec.json.encode(response), msgspec.json.encode(items)
    try:
        await store.put(Record(response.id, owner, response.previous_response_id, *encoded, events))
    except sqlite3.Error as error:
        log.error("a response could not be kept: %s", error)


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


async def conversation(store: ResponseStore | None, id_: str, owner: str, max_bytes: int) -> tuple[Item, ...]:
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
    return items_of(records, all_outputs=True)
