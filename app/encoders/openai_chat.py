"""`/v1/chat/completions`, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.collected import Call, Collected
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.json_string import JsonString, string_in
from mlx_server.app.encoders.openai_base import CompletionsEncoder, chosen_logprobs, prompt_logprobs
from mlx_server.schemas.internal.messages import ChosenToken, Finished, Part, PromptReport, Reasoning, Text, ToolCall
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai import chat
from mlx_server.schemas.openai.common import Usage

CHUNK: Literal["chat.completion.chunk"] = "chat.completion.chunk"
TEXT = "input"
"""What models call the argument that is a custom tool's text."""


class ChatEncoder(CompletionsEncoder):
    """One answer."""

    def __init__(self, head: Head, given: chat.ChatRequest) -> None:
        super().__init__(head, given)
        self._id = f"chatcmpl-{head.id}"
        self._choices = given.n or 1
        self._open = set(range(self._choices))
        """Those that have not ended."""
        self._reports = given.wants_logprobs()
        self._legacy = given.functions is not None
        self._custom = given.custom_tools()
        self._texts: dict[tuple[int, int], JsonString] = {}
        """By choice and call: the texts for custom tools that are being written."""

    def opening(self) -> bytes:
        """The role of every choice; where the prompt's ids are to stand beside it, it comes with them."""
        return b"" if self._returns_ids else b"".join(map(self._role, range(self._choices)))

    def alive(self, progress: PromptProgress | None) -> bytes:
        """A chunk with an empty delta of a choice that has not ended, for clients that look at the first one."""
        chunk = self._chunk_of([chat.ChunkChoice(min(self._open, default=0), chat.Delta())])
        return sse.event(chunk if progress is None else msgspec.structs.replace(chunk, progress=progress))

    def part(self, event: Part | Finished) -> bytes:
        """One chunk for a part that says something, and for an end."""
        match event:
            case Text():
                role = b"" if event.prompt is None else self._role(event.index, event.prompt)
                if not (event.text or event.logprobs or event.ids):
                    return role
                delta, logprobs = chat.Delta(content=event.text), self._logprobs(event.logprobs)
                return role + self._delta_chunk(event, delta, logprobs)
            case Reasoning():
                delta = chat.Delta(reasoning_content=event.text, reasoning=event.text)
                return self._delta_chunk(event, delta) if event.text or event.ids else b""
            case ToolCall():
                return self._called(event)
            case Finished():
                self._open.discard(event.index)
                end = chat.ChunkChoice(event.index, chat.Delta(), self._reason(event), token_ids=self.reported_ids(()))
                return self._last_texts(event.index) + self._chunk(end)

    def last(self, usage: Usage) -> chat.ChatChunk:
        """The chunk that tells the usage."""
        return self._chunk_of([], usage)

    def answer(self, choices: list[Collected], usage: Usage) -> chat.ChatCompletion:
        """The answer in one piece."""
        prompt = choices[0].prompt
        return chat.ChatCompletion(
            self._id,
            "chat.completion",
            self.head.created,
            self.head.model,
            [self._choice(choice) for choice in choices],
            usage,
            self.head.fingerprint,
            self.reported_ids(prompt.ids) if prompt else msgspec.UNSET,
            prompt_logprobs(prompt),
            conversation_id=self.conversation_id,
            performance_metrics=self.performance(usage),
        )

    def _role(self, index: int, prompt: PromptReport | None = None) -> bytes:
        chunk = self._chunk_of([chat.ChunkChoice(index, chat.Delta(role="assistant", content=""))])
        ids = msgspec.UNSET if prompt is None else self.reported_ids(prompt.ids)
        return sse.event(msgspec.structs.replace(chunk, prompt_token_ids=ids))

    def _delta_chunk(self, event: Part, delta: chat.Delta, logprobs: chat.Logprobs | None = None) -> bytes:
        return self._chunk(chat.ChunkChoice(event.index, delta, None, logprobs, self.reported_ids(event.ids)))

    def _choice(self, collected: Collected) -> chat.Choice:
        assert collected.end is not None
        calls = collected.calls
        message = chat.AssistantMessage(
            "assistant",
            collected.text or ("" if not calls else None),
            reasoning_content=collected.reasoning or msgspec.UNSET,
            reasoning=collected.reasoning or msgspec.UNSET,
        )
        if calls and self._legacy:
            message.function_call = chat.FunctionBody(calls[0].arguments, calls[0].name)
        elif calls:
            message.tool_calls = [tool_call(call, self._custom) for call in calls]
        reason = self._reason(collected.end)
        return chat.Choice(
            collected.index, message, reason, self._logprobs(collected.logprobs), self.reported_ids(collected.ids)
        )

    def _call_delta(self, event: ToolCall) -> chat.Delta:
        function = chat.FunctionBody(event.arguments, event.name)
        if self._legacy:
            return chat.Delta(function_call=function)
        kind: Literal["function"] | None = "function" if event.id else None
        return chat.Delta(tool_calls=[chat.ToolCallDelta(event.call, event.id, kind, function)])

    def _called(self, event: ToolCall) -> bytes:
        """The chunk for a part of a call; none for one that adds nothing to a custom tool's text."""
        if event.name not in self._custom and (event.index, event.call) not in self._texts:
            return self._delta_chunk(event, self._call_delta(event))
        reader = self._texts.setdefault((event.index, event.call), JsonString(TEXT))
        text = reader.feed(event.arguments)
        if not (event.name or text or event.ids):
            return b""
        kind: Literal["custom"] | None = "custom" if event.id else None
        call = chat.ToolCallDelta(event.call, event.id, kind, custom=chat.CustomBody(text, event.name))
        return self._delta_chunk(event, chat.Delta(tool_calls=[call]))

    def _last_texts(self, index: int) -> bytes:
        """What of a choice's texts is only known now that nothing more comes."""
        ends = [(call, reader.end()) for (choice, call), reader in self._texts.items() if choice == index]
        deltas = [chat.ToolCallDelta(call, custom=chat.CustomBody(text)) for call, text in ends if text]
        none = self.reported_ids(())
        return b"".join(
            self._chunk(chat.ChunkChoice(index, chat.Delta(tool_calls=[delta]), token_ids=none)) for delta in deltas
        )

    def _reason(self, end: Finished) -> str:
        return "function_call" if self._legacy and end.reason == "tool_calls" else end.reason

    def _logprobs(self, chosen: Iterable[ChosenToken]) -> chat.Logprobs | None:
        if not self._reports:
            return None
        return chat.Logprobs(chosen_logprobs(self.named(chosen)))

    def _chunk(self, choice: chat.ChunkChoice) -> bytes:
        return sse.event(self._chunk_of([choice]))

    def _chunk_of(self, choices: list[chat.ChunkChoice], usage: Usage | None = None) -> chat.ChatChunk:
        return chat.ChatChunk(
            self._id,
            CHUNK,
            self.head.created,
            self.head.model,
            choices,
            self.head.fingerprint,
            usage=self.usage_so_far if usage is None else self.final_usage(usage),
            conversation_id=self.conversation_id,
            performance_metrics=self.performance(usage) if usage else msgspec.UNSET,
        )


def tool_call(call: Call, custom: set[str]) -> chat.ToolCallObject:
    """A whole call as OpenAI shows it; `custom` are the tools that take a text."""
    if call.name in custom:
        text = string_in(call.arguments, TEXT)
        return chat.ToolCallObject(call.id, "custom", custom=chat.CustomBody(text, call.name))
    return chat.ToolCallObject(call.id, "function", chat.FunctionBody(call.arguments, call.name))
