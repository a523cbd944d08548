"""How a model marks what it writes, and the parser that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_server.schemas.internal.generation import Tool, ToolUse
from mlx_server.workers.engine.output.harmony import HarmonyText
from mlx_server.workers.engine.output.marker_parser import MarkerParser
from mlx_server.workers.engine.output.marker_table import NORMAL, MarkerTable, ResponseFormat
from mlx_server.workers.engine.output.thinking import ThinkMarks, think_marks
from mlx_server.workers.engine.output.tool_calls.calls import ToolCalls
from mlx_server.workers.engine.output.tool_calls.markup import Markup, PlainText
from mlx_server.workers.engine.output.tool_calls.tool_formats import HARMONY, ToolFormat, tool_format

ROUND_ANSWERS = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")
"""Tokens that Cohere's models write round what is said, which mlx-lm does not know as structure."""


@dataclass(frozen=True, slots=True)
class Speech:
    """What an answer may hold beside text. `hermes`: its calls are Hermes' JSON, which the prompt asks for where the
    model's template has no tools."""

    tools: tuple[Tool, ...]
    tool_use: ToolUse
    hermes: bool

    @property
    def calls(self) -> bool:
        """Whether there may be calls."""
        return bool(self.tools) and self.tool_use.choice != "none"


class OutputFormat:
    """The output format of one model, made once."""

    def __init__(
        self, format_: ToolFormat, thinking: ThinkMarks | None = None, response: ResponseFormat | None = None
    ) -> None:
        self.format = format_
        self.thinking = thinking
        self._response = response or ResponseFormat()
        self._with_calls = MarkerTable(format_, thinking, self._response, calls=True)
        self._without_calls = MarkerTable(format_, thinking, self._response, calls=False)

    @classmethod
    def of(cls, tokenizer: Any) -> OutputFormat:
        """The output format that mlx-lm's TokenizerWrapper describes."""
        vocab = tokenizer.get_vocab()
        response = ResponseFormat(
            tokenizer.response_transitions,
            tokenizer.response_initial_state or NORMAL,
            (*tokenizer.structural_markers, *(mark for mark in ROUND_ANSWERS if mark in vocab)),
        )
        return cls(tool_format(tokenizer), think_marks(tokenizer), response)

    def speaking(self, format_: ToolFormat) -> OutputFormat:
        """The same model with calls in another format. Keep it: it takes a moment to make."""
        return self if format_ == self.format else OutputFormat(format_, self.thinking, self._response)

    def mark_tokens(self, tokenizer: Any, *, calls: bool) -> frozenset[int]:
        """The ids of special tokens in marks, those of calls only where there may be calls: they must stay in a text
        that leaves special tokens out."""
        states = self._with_calls if calls else self._without_calls
        marks = [mark for edges in states.edges.values() for mark in edges]
        if calls or self.format is HARMONY:
            marks += self.format.marks
        special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
        return frozenset(id_ for token, id_ in special if any(token in mark for mark in marks))

    def markup(self, speech: Speech, *, starts_thinking: bool) -> Markup:
        """A parser for one sequence; `starts_thinking` if its prompt has opened the reasoning."""
        allowed = speech.tools if speech.calls else ()
        calls = ToolCalls(allowed, parallel=speech.tool_use.parallel)
        if self.format is HARMONY:
            return HarmonyText(calls, starts_thinking=starts_thinking)
        states = self._with_calls if allowed else self._without_calls
        if not any(states.edges.values()):
            return PlainText()
        return MarkerParser(states, calls, starts_thinking=starts_thinking)
