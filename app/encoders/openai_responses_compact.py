"""Summaries in OpenAI's words: of `/v1/responses/compact`, always whole, and as responses."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException

from mlx_server.app.encoders.collected import collect
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses import HowSampled, ResponsesEncoder
from mlx_server.app.encoders.tally import Tally
from mlx_server.app.http.errors import Answer, of_exception
from mlx_server.schemas.internal.messages import Finished, Part, Started
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai import responses_events as ev
from mlx_server.schemas.openai.responses import Turn
from mlx_server.schemas.openai.responses_answer import usage_of
from mlx_server.schemas.openai.responses_compact import CompactedResponse, Compaction, to_item

NO_SUMMARY = "The model wrote no summary; try again, or go on with the conversation as it is."


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
        if not written.summary:
            raise HTTPException(500, NO_SUMMARY)
        tally = Tally()
        tally.add(written.end)
        return msgspec.json.encode(
            CompactedResponse(
                id=f"resp_{self._head.id}",
                created_at=self._head.created,
                output=self._asked.compacted(written.summary),
                usage=usage_of(tally.usage()),
            )
        )


class SummaryEncoder(ResponsesEncoder):
    """A response that is a summary of the conversation: one item, told when it is whole."""

    def __init__(self, head: Head, turn: Turn, how_sampled: HowSampled, *, store: bool) -> None:
        super().__init__(head, turn, how_sampled, store=store)
        self._written: list[Part | Finished] = []

    def end(self) -> bytes:
        """The summary, or a failure if the model wrote nothing that a conversation could go on from."""
        [written] = collect(self._written)
        if not written.summary:
            return self.error(of_exception(HTTPException(500, NO_SUMMARY)))
        item = to_item(written.summary)
        self._output.items.append(item)
        self._finish("completed")
        added, done = ev.ItemAdded(self._number(), 0, item), ev.ItemDone(self._number(), 0, item)
        return self._encode(added, done, ev.Completed(self._number(), self.response))

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece. Raises HTTPException for such a failure."""
        body = super().whole(events)
        if self.response.status == "failed":
            raise HTTPException(500, NO_SUMMARY)
        return body

    def _take(self, event: Part | Finished) -> list[ev.StreamEvent]:
        self._written.append(event)
        if isinstance(event, Finished):
            self._tally.add(event)
        return []
