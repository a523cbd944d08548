"""`/v1/responses`, whole, streamed and made in the background."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses_output import Output
from mlx_server.app.encoders.tally import Tally
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.generation import Sampling
from mlx_server.schemas.internal.messages import Finished, Part, Started
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai import responses_events as ev
from mlx_server.schemas.openai.responses import SEALED, TextConfig, TextFormat, Turn
from mlx_server.schemas.openai.responses_answer import (
    IncompleteDetails,
    Response,
    ResponseError,
    ResponseStatus,
    echoed_reasoning,
    usage_of,
)
from mlx_server.schemas.openai.responses_tools import without_secrets

HowSampled = Callable[[Sampling], Sampling | None]
"""What is in force of the sampling that a request asks for; None while that can't be told."""


class ResponsesEncoder:
    """One response. `store` tells whether it will be kept."""

    def __init__(self, head: Head, turn: Turn, how_sampled: HowSampled, *, store: bool) -> None:
        self._sampling = turn.given.sampling()
        self._how_sampled = how_sampled
        self.response = describe(head, turn, self._sampling, store=store)
        """The response as far as it has been told; whole after `end`, `whole`, `error` or `cancelled`."""
        self._numbers = itertools.count()
        self._output = Output(self._number, turn.tools.offered, seals=turn.given.wants(SEALED))
        self._tally = Tally()
        self._cut_off = False

    def begin(self, started: Started | None = None) -> bytes:
        """The response exists; one without a client waits, the other one is already being made."""
        if self.response.background:
            self._move("queued")
            return self._encode(ev.Created(self._number(), self.response), ev.Queued(self._number(), self.response))
        self._move("in_progress")
        return self._encode(ev.Created(self._number(), self.response), ev.InProgress(self._number(), self.response))

    def alive(self, progress: PromptProgress | None) -> bytes:
        """It is still in progress: an event again, as clients' idle timers count events only."""
        progress_or_unset = msgspec.UNSET if progress is None else progress
        return self._encode(ev.InProgress(self._number(), self.response, progress_or_unset))

    def events(self, events: list[Part | Finished]) -> bytes:
        """What the parts of the answer are in the stream."""
        begun = b""
        if self.response.status == "queued" and events:
            self._move("in_progress")
            begun = self._encode(ev.InProgress(self._number(), self.response))
        return begun + b"".join([self._encode(*self._take(event)) for event in events])

    def end(self) -> bytes:
        """The response is whole, or cut off."""
        items = self._output.end("incomplete" if self._cut_off else "completed")
        self._finish("incomplete" if self._cut_off else "completed")
        last = ev.Incomplete if self._cut_off else ev.Completed
        return self._encode(*items, last(self._number(), self.response))

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece."""
        self.events(events)
        self.end()
        return msgspec.json.encode(self.response)

    def unkept(self, last: bytes = b"") -> bytes:
        """The response could not be kept, and says so; its last bytes as they are then."""
        told = msgspec.json.encode(self.response)
        self.response = msgspec.structs.replace(self.response, store=False)
        return last.replace(told, msgspec.json.encode(self.response))

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun, or of a response without a client: as an event, and in the response.

        What stood there before stays, as incomplete items.
        """
        items = self._output.cut()
        error = ev.Error(self._number(), answer.code or answer.type, answer.message, answer.param)
        invalid = answer.status == 400
        self._finish("failed", ResponseError("invalid_prompt" if invalid else "server_error", answer.message))
        return self._encode(*items, error, ev.Failed(self._number(), self.response))

    def cancelled(self) -> bytes:
        """The response was taken back. There is no event that tells of it: the stream ends after its items."""
        items = self._output.cut()
        self._finish("cancelled")
        return self._encode(*items)

    def _take(self, event: Part | Finished) -> list[ev.StreamEvent]:
        if not isinstance(event, Finished):
            return self._output.add(event)
        self._tally.add(event)
        self._cut_off = event.reason == "length"
        return []

    def _move(self, status: ResponseStatus, **more: Any) -> None:
        numbers = self._sampling = self._how_sampled(self._sampling) or self._sampling
        self.response = msgspec.structs.replace(
            self.response, status=status, temperature=numbers.temperature, top_p=numbers.top_p, **more
        )

    def _finish(self, status: ResponseStatus, error: ResponseError | None = None) -> None:
        ended = status in ("completed", "incomplete")
        self._move(
            status,
            error=error,
            completed_at=int(time.time()) if status == "completed" else None,
            incomplete_details=IncompleteDetails("max_output_tokens") if status == "incomplete" else None,
            output=self._output.items,
            usage=usage_of(self._tally.usage()) if ended else None,
        )

    def _number(self) -> int:
        return next(self._numbers)

    def _encode(self, *events: ev.StreamEvent) -> bytes:
        return b"".join([sse.named_event(event.kind, event) for event in events])


class WarmUpEncoder(ResponsesEncoder):
    """A response to a prompt that is only read."""

    def end(self) -> bytes:
        """The prompt is known."""
        self._finish("completed")
        return self._encode(ev.Completed(self._number(), self.response))

    def _take(self, event: Part | Finished) -> list[ev.StreamEvent]:
        if isinstance(event, Finished):
            self._tally.add(msgspec.structs.replace(event, completion_tokens=0, reasoning_tokens=0))
        return []


def describe(head: Head, turn: Turn, sampling: Sampling, *, store: bool) -> Response:
    """A response of which nothing is made yet, with what was asked for."""
    given = turn.given
    text = given.text or TextConfig()
    return Response(
        id=f"resp_{head.id}",
        created_at=head.created,
        status="queued",
        background=bool(given.background),
        conversation=given.conversation_ref,
        frequency_penalty=sampling.frequency_penalty,
        instructions=given.instructions,
        max_output_tokens=given.max_output_tokens,
        max_tool_calls=given.max_tool_calls,
        metadata=given.metadata or {},
        model=head.model,
        parallel_tool_calls=given.parallel_tool_calls is not False,
        presence_penalty=sampling.presence_penalty,
        previous_response_id=given.previous_response_id,
        prompt_cache_key=given.prompt_cache_key,
        reasoning=echoed_reasoning(given.reasoning),
        safety_identifier=given.safety_identifier,
        store=store,
        temperature=sampling.temperature,
        text=TextConfig(text.format or TextFormat("text"), text.verbosity or "medium"),
        tool_choice=given.tool_choice or "auto",
        tools=without_secrets(given.tools or ()),
        top_logprobs=given.top_logprobs or 0,
        top_p=sampling.top_p,
        truncation=given.truncation or "disabled",
        user=given.user,
    )
