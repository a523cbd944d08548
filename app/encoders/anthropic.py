"""Anthropic's `/v1/messages`, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.collected import collect
from mlx_server.app.encoders.head import Head
from mlx_server.app.http.errors import Answer
from mlx_server.queue.mailbox import continues
from mlx_server.schemas.anthropic import answer as out
from mlx_server.schemas.anthropic.requests import MessagesRequest
from mlx_server.schemas.internal.messages import Finished, Part, Reasoning, Started, Text, ToolCall
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.internal.summary import PREFACE

UNREADABLE = "INVALID_JSON"
"""Anthropic's own name for the one field of an input that is no JSON object, cut off or not: its text."""

COMPACTED = "compaction"
"""Why such an answer ended."""


class MessagesEncoder:
    """One answer: parts of one kind are a block, and every call is one of its own."""

    def __init__(self, head: Head, given: MessagesRequest) -> None:
        self._head = head
        self._max_tokens = given.max_tokens
        self._hides_thinking = given.hides_thinking()
        self._index = 0
        self._open: Part | None = None
        """The last part of the block that is being streamed."""
        self._hidden: list[str] = []
        """The thoughts of that block, if they are not shown."""
        self._argued = False
        """Some of this block's input has been sent."""

    def begin(self, started: Started | None = None) -> bytes:
        """The message without content; `started` says what the prompt took."""
        usage = usage_of(started.prompt_tokens, started.cached_tokens) if started else usage_of(0, 0)
        return event(out.MessageStart(self._message([], None, None, usage))) + event(out.Ping())

    def alive(self, progress: PromptProgress | None) -> bytes:
        """A ping, which may come at any time, before the message too."""
        return event(out.Ping(msgspec.UNSET if progress is None else progress))

    def events(self, events: Iterable[Part | Finished]) -> bytes:
        """The blocks as they grow."""
        return b"".join(self._end(e) if isinstance(e, Finished) else self._part(e) for e in events)

    def end(self) -> bytes:
        """The last event."""
        return event(out.MessageStop())

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece."""
        [end] = [e for e in events if isinstance(e, Finished)]
        blocks: list[list[Part]] = []
        for e in events:
            if isinstance(e, Finished) or says_nothing(e):
                continue
            if blocks and continues(blocks[-1][-1], e):
                blocks[-1].append(e)
            else:
                blocks.append([e])
        reason, stop = self._reason(end)
        message = self._message([self._block(parts) for parts in blocks], reason, stop, usage_at(end))
        return msgspec.json.encode(message)

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun."""
        return sse.named_data("error", answer.anthropic_body(self._head.request_id))

    def _part(self, part: Part) -> bytes:
        if says_nothing(part):
            return b""
        before = b""
        if self._open is None or not continues(self._open, part):
            before = self._close() + event(out.BlockStart(self._index, self._empty(part)))
            self._argued = False
        self._open = part
        delta = self._delta(part)
        return before if delta is None else before + event(out.BlockDelta(self._index, delta))

    def _delta(self, part: Part) -> out.TextDelta | out.ThinkingDelta | out.InputJsonDelta | None:
        match part:
            case Text():
                return out.TextDelta(part.text)
            case Reasoning() if self._hides_thinking:
                self._hidden.append(part.text)
                return None
            case Reasoning():
                return out.ThinkingDelta(part.text)
            case ToolCall():
                return out.InputJsonDelta(self._input(part.arguments)) if part.arguments else None

    def _input(self, arguments: str) -> str:
        """The next part of a call's input; arguments that are no object come in one part."""
        begins, self._argued = not self._argued, True
        return msgspec.json.encode(input_of(arguments)).decode() if begins and arguments[0] != "{" else arguments

    def _close(self) -> bytes:
        """The end of the open block, if there is one."""
        if self._open is None:
            return b""
        signed = isinstance(self._open, Reasoning)
        signature = event(out.BlockDelta(self._index, self._signature())) if signed else b""
        self._open = None
        self._index += 1
        return signature + event(out.BlockStop(self._index - 1))

    def _signature(self) -> out.SignatureDelta:
        hidden, self._hidden = "".join(self._hidden), []
        return out.SignatureDelta(seal(hidden) if self._hides_thinking else self._head.id)

    def _end(self, end: Finished) -> bytes:
        return self._close() + event(out.MessageDelta(out.StopDelta(*self._reason(end)), usage_at(end)))

    def _empty(self, part: Part) -> out.Block:
        match part:
            case Text():
                return out.TextBlock("")
            case Reasoning():
                return out.ThinkingBlock("", "")
            case ToolCall():
                return out.ToolUseBlock(call_id(part), part.name or "", {})

    def _block(self, parts: list[Part]) -> out.Block:
        first = parts[0]
        match first:
            case Text():
                return out.TextBlock("".join(part.text for part in parts if isinstance(part, Text)))
            case Reasoning():
                thoughts = "".join(part.text for part in parts if isinstance(part, Reasoning))
                hides = self._hides_thinking
                return out.ThinkingBlock("" if hides else thoughts, seal(thoughts) if hides else self._head.id)
            case ToolCall():
                arguments = "".join(part.arguments for part in parts if isinstance(part, ToolCall))
                return out.ToolUseBlock(call_id(first), first.name or "", input_of(arguments))

    def _message(
        self, content: list[out.Block], reason: str | None, stop: str | None, usage: out.MessageUsage
    ) -> out.AssistantMessage:
        return out.AssistantMessage(f"msg_{self._head.id}", self._head.model, content, reason, stop, usage)

    def _reason(self, end: Finished) -> tuple[str, str | None]:
        match end.reason:
            case "tool_calls":
                return "tool_use", None
            case "length":
                whole = end.completion_tokens >= self._max_tokens
                return "max_tokens" if whole else "model_context_window_exceeded", None
            case "stop":
                return ("end_turn", None) if end.stop is None else ("stop_sequence", end.stop)


class CompactionEncoder(MessagesEncoder):
    """A summary of the conversation in an answer's place: one block, told when it is whole."""

    def __init__(self, head: Head, given: MessagesRequest) -> None:
        super().__init__(head, given)
        self._written: list[Part | Finished] = []

    def events(self, events: Iterable[Part | Finished]) -> bytes:
        """Nothing yet."""
        self._written += events
        return b""

    def end(self) -> bytes:
        """The block, and the last events."""
        summary, usage = summary_in(self._written)
        told: list[out.StreamEvent] = [
            out.BlockStart(0, out.CompactionBlock(None)),
            out.BlockDelta(0, out.CompactionDelta(summary)),
            out.BlockStop(0),
            out.MessageDelta(out.StopDelta(COMPACTED, None), usage),
        ]
        return b"".join(map(event, told)) + super().end()

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece."""
        summary, usage = summary_in(events)
        return msgspec.json.encode(self._message([out.CompactionBlock(summary)], COMPACTED, None, usage))


class WarmUpEncoder(MessagesEncoder):
    """A message without content, to a prompt that is only read."""

    def events(self, events: Iterable[Part | Finished]) -> bytes:
        """Nothing but the end."""
        return super().events(unsaid(events))

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece."""
        return super().whole(unsaid(events))


def unsaid(events: Iterable[Part | Finished]) -> list[Part | Finished]:
    """The end of an answer, as if nothing had been written."""
    ends = [event for event in events if isinstance(event, Finished)]
    return [replace(end, reason="length", completion_tokens=0, reasoning_tokens=0, stop=None) for end in ends]


def encoder_for(head: Head, given: MessagesRequest) -> MessagesEncoder:
    """What writes the answer to a request."""
    if given.max_tokens == 0:
        return WarmUpEncoder(head, given)
    return (MessagesEncoder if given.compaction is None else CompactionEncoder)(head, given)


def summary_in(events: Iterable[Part | Finished]) -> tuple[str | None, out.MessageUsage]:
    """The summary that was written, if any was, and what it took."""
    [written] = collect(events)
    assert written.end is not None
    return f"{PREFACE}{written.summary}" if written.summary else None, usage_at(written.end)


def event(data: out.StreamEvent) -> bytes:
    """An event that is called what its type is."""
    return sse.named_event(str(data.__struct_config__.tag), data)


def says_nothing(part: Part) -> bool:
    """It only counts tokens."""
    return not isinstance(part, ToolCall) and not part.text


def call_id(call: ToolCall) -> str:
    """A call's id as Anthropic writes them."""
    return f"toolu_{(call.id or '').removeprefix('call_')}"


def input_of(arguments: str) -> dict[str, Any]:
    """A call's input; where the arguments are no JSON object, their text as it stands."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        return {UNREADABLE: arguments}


def usage_at(end: Finished) -> out.MessageUsage:
    """What the whole answer took."""
    return usage_of(end.prompt_tokens, end.cached_tokens, end.completion_tokens, end.reasoning_tokens)


def usage_of(prompt: int, cached: int, completion: int = 0, reasoning: int = 0) -> out.MessageUsage:
    """Anthropic counts what the cache had beside the input, not in it."""
    return out.MessageUsage(
        prompt - cached, completion, cached, output_tokens_details=out.OutputTokensDetails(reasoning)
    )
