"""`/v1/responses/compact`: always whole."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException

from mlx_server.app.encoders.collected import collect
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.tally import Tally
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Part, Started
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.responses_answer import usage_of
from mlx_server.schemas.openai.responses_compact import CompactedResponse, Compaction


class CompactEncoder:
    """One compaction."""

    def __init__(self, head: Head, asked: Compaction) -> None:
        self._head = head
        self._asked = asked
        self._events: list[Part | Finished] = []

    def begin(self, started: Started | None = None) -> bytes:
        """Nothing: the answer comes at the end."""
        return b""

    def alive(self, progress: PromptProgress | None) -> bytes:
        """Nothing: whoever waits for it sees no sign of it."""
        return b""

    def events(self, events: list[Part | Finished]) -> bytes:
        """Nothing yet."""
        self._events += events
        return b""

    def end(self) -> bytes:
        """The answer. Raises what `whole` does."""
        return self.whole(self._events)

    def error(self, answer: Answer) -> bytes:
        """A failure."""
        return answer.body()

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer. Raises HTTPException if the model wrote nothing that a conversation could go on from."""
        [written] = collect(events)
        assert written.end is not None
        # A model that thought until it had no tokens left has said in its thoughts what matters.
        summary = written.text.strip() or written.reasoning.strip()
        if not summary:
            raise HTTPException(500, "The model wrote no summary; try again, or go on with the conversation as it is.")
        tally = Tally()
        tally.add(written.end)
        return msgspec.json.encode(
            CompactedResponse(
                id=f"resp_{self._head.id}",
                created_at=self._head.created,
                output=self._asked.compacted(summary),
                usage=usage_of(tally.usage()),
            )
        )
