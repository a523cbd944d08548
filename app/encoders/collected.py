"""A whole answer, put together from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlx_server.schemas.internal.messages import ChosenToken, Finished, Part, PromptReport, Reasoning, Text, ToolCall


@dataclass
class Call:
    """A function call; `arguments` is JSON text, cut off where the answer was."""

    id: str
    name: str
    arguments: str = ""


@dataclass
class Collected:
    """Everything that one sequence produced."""

    index: int
    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[ChosenToken] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prompt: PromptReport | None = None
    end: Finished | None = None

    @property
    def summary(self) -> str:
        """What was written to stand for a conversation: of a model that thought until it had no tokens left, its
        thoughts; empty if there is nothing to go on from."""
        return self.text.strip() or self.reasoning.strip()

    def add(self, event: Part | Finished) -> None:
        """Take in the next event."""
        if not isinstance(event, Finished):
            self.ids += event.ids
        match event:
            case Text():
                self.prompt = self.prompt or event.prompt
                self.text += event.text
                self.logprobs += event.logprobs
            case Reasoning():
                self.reasoning += event.text
            case ToolCall():
                if event.name is not None:
                    self.calls.append(Call(event.id or "", event.name))
                self.calls[event.call].arguments += event.arguments
            case Finished():
                self.end = event


def collect(events: Iterable[Part | Finished]) -> list[Collected]:
    """All sequences, in the order of their indices."""
    out: dict[int, Collected] = {}
    for event in events:
        out.setdefault(event.index, Collected(event.index)).add(event)
    return [out[index] for index in sorted(out)]
