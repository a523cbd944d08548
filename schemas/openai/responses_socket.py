"""`/v1/responses` over a WebSocket: the messages' own fields, and the events that no stream over HTTP has."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.responses_input import Id
from mlx_server.schemas.parsing.parse import explain

CREATE = "response.create"
READ = "response.processed"
"""A client says that it has read a response: there is nothing to do."""


class Envelope(msgspec.Struct, frozen=True):
    """What a message has beside the fields of a request."""

    type: str
    stream_id: Id | None = None
    generate: bool | None = None


@dataclass(frozen=True)
class Asked:
    """A request for a response, as a body over HTTP. `warms_up`: its prompt is read, and nothing written."""

    body: bytes
    stream_id: str | None
    warms_up: bool


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong; `headers` are those of a refusal that say more."""

    type: str
    code: str | None
    message: str
    param: str | None
    headers: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class SocketError(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    """An error: of a request, with a status, or in a stream, with a number."""

    error: ErrorDetail
    status: int | msgspec.UnsetType = msgspec.UNSET
    sequence_number: int | msgspec.UnsetType = msgspec.UNSET


class Notes(msgspec.Struct, frozen=True, tag="mlx_server:notes", tag_field="type"):
    """What the head of an answer over HTTP would say, before the first event."""

    ignored_fields: list[str]
    dropped_messages: int


def read(message: bytes) -> Asked | None:
    """What a message asks for, if anything. Raises InvalidRequest."""
    try:
        envelope = msgspec.json.decode(message, type=Envelope)
        fields = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise InvalidRequest(*explain(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The message is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("The message is nested too deeply.") from None
    if envelope.type == READ:
        return None
    if envelope.type != CREATE:
        raise InvalidRequest(f"`type`: {CREATE!r} is allowed, got {envelope.type[:64]!r}.", "type")
    for name in (*Envelope.__struct_fields__, "stream"):
        fields.pop(name, None)
    body = msgspec.json.encode({**fields, "stream": True})
    return Asked(body, envelope.stream_id, envelope.generate is False)


def notes(ignored: str | None, dropped: str | None) -> Notes | None:
    """What two headers say; None if there are none."""
    if ignored is None and dropped is None:
        return None
    return Notes(ignored.split(", ") if ignored else [], int(dropped or 0))
