"""`/v1/conversations`: what clients send and get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.openai.chat import MAX_MESSAGES
from mlx_server.schemas.openai.responses_input import InputItem

Items = Annotated[list[InputItem], msgspec.Meta(max_length=MAX_MESSAGES)]


class CreateConversation(msgspec.Struct, frozen=True):
    """A conversation that begins with these items."""

    items: Items | None = None
    metadata: dict[str, Any] | None = None


class UpdateConversation(msgspec.Struct, frozen=True):
    """Other metadata."""

    metadata: dict[str, Any] | None


class AddItems(msgspec.Struct, frozen=True):
    """Items for the end of a conversation."""

    items: Items


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation; `created_at` in seconds since the epoch."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class ConversationDeleted(msgspec.Struct, frozen=True):
    """A conversation that is gone."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


create_decoder = msgspec.json.Decoder(CreateConversation)
update_decoder = msgspec.json.Decoder(UpdateConversation)
add_decoder = msgspec.json.Decoder(AddItems)
metadata_decoder = msgspec.json.Decoder(dict[str, str])
