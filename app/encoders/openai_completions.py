"""`/v1/completions`, whole and streamed."""

from __future__ import annotations

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.tally import Tally
from mlx_server.schemas.messages import Finished, Text
from mlx_server.schemas.openai import Usage
from mlx_server.schemas.openai_completions import Completion, CompletionChoice


class CompletionEncoder:
    """One answer; a choice for each prompt."""

    def __init__(self, id_: str, created: int, model: str, rows: int, *, include_usage: bool) -> None:
        self._id = f"cmpl-{id_}"
        self._created = created
        self._model = model
        self._include_usage = include_usage
        self._usage: msgspec.UnsetType | None = None if include_usage else msgspec.UNSET
        self._tally = Tally()

    def begin(self) -> bytes:
        """Text completions begin with their text."""
        return b""

    def events(self, events: list[Text | Finished]) -> bytes:
        """A chunk for each text that is not empty, and for each end."""
        return b"".join(map(self._event, events))

    def end(self) -> bytes:
        """The usage if it was asked for, and the mark that all is said."""
        last = sse.event(self._completion([], self._tally.usage())) if self._include_usage else b""
        return last + sse.DONE

    def whole(self, events: list[Text | Finished]) -> bytes:
        """The answer in one piece."""
        texts = {event.index: event.text for event in events if isinstance(event, Text)}
        choices = []
        for event in events:
            if isinstance(event, Finished):
                self._tally.add(event)
                choices.append(CompletionChoice(event.index, texts.get(event.index, ""), event.reason))
        choices.sort(key=lambda choice: choice.index)
        return msgspec.json.encode(self._completion(choices, self._tally.usage()))

    def _event(self, event: Text | Finished) -> bytes:
        if isinstance(event, Text):
            choice = CompletionChoice(event.index, event.text)
            return sse.event(self._completion([choice])) if event.text else b""
        self._tally.add(event)
        return sse.event(self._completion([CompletionChoice(event.index, "", event.reason)]))

    def _completion(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        return Completion(self._id, "text_completion", self._created, self._model, choices, usage or self._usage)
