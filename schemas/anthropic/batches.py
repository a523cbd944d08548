"""`/v1/messages/batches`: what clients send and get. Times are RFC 3339, in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored.batches import Line, body_decoder
from mlx_server.schemas.parsing.parse import explain

MESSAGES = "/v1/messages"
MOST_REQUESTS = 100_000


class BatchRequest(msgspec.Struct, frozen=True):
    """A request; `params` is the body of one to `/v1/messages`."""

    custom_id: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    params: msgspec.Raw


class CreateMessageBatch(msgspec.Struct, frozen=True):
    """Requests that can wait."""

    requests: Annotated[list[BatchRequest], msgspec.Meta(min_length=1, max_length=MOST_REQUESTS)]

    def lines(self) -> bytes:
        """The requests as a file of a batch. Raises InvalidRequest."""
        ids: set[str] = set()
        for index, one in enumerate(self.requests):
            where = f"requests[{index}]"
            if one.custom_id in ids:
                message = f"`{where}.custom_id`: {one.custom_id!r} is that of an earlier request."
                raise InvalidRequest(message, f"{where}.custom_id")
            ids.add(one.custom_id)
            try:
                body = body_decoder.decode(one.params)
            except msgspec.ValidationError as error:
                message, param = explain(error, body_decoder.type)
                raise InvalidRequest(
                    f"`{where}.params`: {message}", f"{where}.params.{param or ''}".rstrip(".")
                ) from None
            for name in ("stream", "background"):
                if getattr(body, name):
                    message = f"`{where}.params.{name}`: a batch's requests are answered in one piece; leave it out."
                    raise InvalidRequest(message, f"{where}.params.{name}")
        return b"".join(map(line_of, self.requests))


def line_of(request: BatchRequest) -> bytes:
    """A request as a line of a batch's file, however many lines it had."""
    params = msgspec.Raw(msgspec.json.format(bytes(request.params), indent=-1))
    return msgspec.json.encode(Line(request.custom_id, "POST", MESSAGES, params)) + b"\n"


class MessageCounts(msgspec.Struct, frozen=True):
    """Requests by what became of them; all are `processing` until the batch has ended."""

    processing: int
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class MessageBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch."""

    id: str
    type: Literal["message_batch"] = "message_batch"
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: MessageCounts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    cancel_initiated_at: datetime | None
    archived_at: datetime | None = None
    results_url: str | None


class MessageBatchList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches, the newest first."""

    data: list[MessageBatch]
    has_more: bool
    first_id: str | None
    last_id: str | None


class MessageBatchDeleted(msgspec.Struct, frozen=True):
    """A batch that is gone."""

    id: str
    type: Literal["message_batch_deleted"] = "message_batch_deleted"


class Succeeded(msgspec.Struct, frozen=True, tag_field="type", tag="succeeded"):
    """A request that was answered."""

    message: msgspec.Raw


class Errored(msgspec.Struct, frozen=True, tag_field="type", tag="errored"):
    """A request that was refused, or failed."""

    error: msgspec.Raw


class NotRun(msgspec.Struct, frozen=True):
    """A request whose batch ended before."""

    type: Literal["canceled", "expired"]


class MessageResult(msgspec.Struct, frozen=True):
    """A line of the results."""

    custom_id: str
    result: Succeeded | Errored | NotRun


create_decoder = msgspec.json.Decoder(CreateMessageBatch)
