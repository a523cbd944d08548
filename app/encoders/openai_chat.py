"""`/v1/chat/completions`, whole and streamed."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.tally import Tally
from mlx_server.schemas.messages import Finished, Text
from mlx_server.schemas.openai import Usage
from mlx_server.schemas.openai_chat import AssistantMessage, ChatChunk, ChatCompletion, Choice, ChunkChoice, Delta

CHUNK: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class ChatEncoder:
    """One answer; `rows` choices."""

    def __init__(self, id_: str, created: int, model: str, rows: int, *, include_usage: bool) -> None:
        self._id = f"chatcmpl-{id_}"
        self._created = created
        self._model = model
        self._rows = rows
        self._include_usage = include_usage
        self._usage: msgspec.UnsetType | None = None if include_usage else msgspec.UNSET
        self._tally = Tally()

    def begin(self) -> bytes:
        """The role of every choice."""
        role = Delta(role="assistant", content="")
        return b"".join(self._chunk(ChunkChoice(i, role)) for i in range(self._rows))

    def events(self, events: list[Text | Finished]) -> bytes:
        """A chunk for each text that is not empty, and for each end."""
        return b"".join(map(self._event, events))

    def end(self) -> bytes:
        """The usage if it was asked for, and the mark that all is said."""
        return (self._chunk(None, self._tally.usage()) if self._include_usage else b"") + sse.DONE

    def whole(self, events: list[Text | Finished]) -> bytes:
        """The answer in one piece."""
        texts = {event.index: event.text for event in events if isinstance(event, Text)}
        choices = []
        for event in events:
            if isinstance(event, Finished):
                self._tally.add(event)
                message = AssistantMessage("assistant", texts.get(event.index, ""))
                choices.append(Choice(event.index, message, event.reason))
        choices.sort(key=lambda choice: choice.index)
        usage = self._tally.usage()
        return msgspec.json.encode(
            ChatCompletion(self._id, "chat.completion", self._created, self._model, choices, usage)
        )

    def _event(self, event: Text | Finished) -> bytes:
        if isinstance(event, Text):
            return self._chunk(ChunkChoice(event.index, Delta(content=event.text))) if event.text else b""
        self._tally.add(event)
        return self._chunk(ChunkChoice(event.index, Delta(), event.reason))

    def _chunk(self, choice: ChunkChoice | None, usage: Usage | None = None) -> bytes:
        choices = [] if choice is None else [choice]
        return sse.event(ChatChunk(self._id, CHUNK, self._created, self._model, choices, usage=usage or self._usage))
