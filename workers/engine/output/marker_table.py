"""Which state each mark in a model's text leads to: the table that MarkerParser reads by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlx_server.workers.engine.output.thinking import ThinkMarks
from mlx_server.workers.engine.output.tool_calls.marker_matcher import MarkerMatcher
from mlx_server.workers.engine.output.tool_calls.tool_formats import ToolFormat

NORMAL, REASONING, TOOL = "normal", "reasoning", "tool"
"""mlx-lm's names of states. A model's response format has further ones, whose text is dropped."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """mlx-lm's description of whole answers: `response_transitions` (by state, marks and the states that they lead to),
    `response_initial_state` and `structural_markers`."""

    transitions: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict)
    initial: str = NORMAL
    structural: tuple[str, ...] = ()


class MarkerTable:
    """The states of one model's text, made once. With `calls` the marks of calls are read, else they are plain text."""

    def __init__(
        self, format_: ToolFormat, thinking: ThinkMarks | None, response: ResponseFormat, *, calls: bool
    ) -> None:
        self.format = format_
        self.thinking = thinking
        self.initial = response.initial
        transitions = response.transitions
        states = {NORMAL, REASONING, response.initial, *transitions} - {TOOL}
        edges: dict[str, dict[str, str]] = {state: {} for state in states}
        edges[NORMAL] |= dict.fromkeys((*response.structural, *format_.frame), NORMAL)
        if thinking is not None:
            for state in (NORMAL, REASONING):
                edges[state] |= {thinking.start: REASONING, thinking.end: NORMAL}
        if calls:
            for state in states:
                edges[state] |= {mark: state for mark in (format_.end,) if mark}
                edges[state] |= {mark: TOOL for mark in (format_.start, format_.open) if mark}
        for state in states & transitions.keys():
            for mark, after in transitions[state]:
                edges[state][mark] = after if after != TOOL or calls else NORMAL
        self.edges = edges
        self.marks = {state: MarkerMatcher(marks) for state, marks in edges.items()}
