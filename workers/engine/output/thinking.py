"""Where a sequence's reasoning begins and ends, by its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FURTHER_MARKS = (("<|START_THINKING|>", "<|END_THINKING|>"),)
"""Cohere's, which mlx-lm 0.32.2 does not know."""


@dataclass(frozen=True, slots=True)
class ThinkMarks:
    """The marks round a model's reasoning, as text and as token ids."""

    start: str
    end: str
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ThinkingStart:
    """Where a sequence starts: inside the reasoning, before it, or past it."""

    marks: ThinkMarks
    thinks: bool
    may_think: bool

    def state(self) -> ThinkingState:
        """A state at the start of the sequence."""
        return ThinkingState(self.marks, thinks=self.thinks, may_think=self.may_think)


def find_further_marks(tokenizer: Any) -> None:
    """Let mlx-lm's TokenizerWrapper know of marks that it does not look for itself, if they are tokens of the model."""
    vocab = {} if tokenizer.has_thinking else tokenizer.get_vocab()
    for start, end in FURTHER_MARKS:
        if start in vocab and end in vocab:
            tokenizer._think_start, tokenizer._think_end = start, end
            tokenizer._think_start_tokens, tokenizer._think_end_tokens = (vocab[start],), (vocab[end],)


def think_marks(tokenizer: Any) -> ThinkMarks | None:
    """The marks that mlx-lm found in a tokenizer; None for a model that does not reason."""
    if not tokenizer.has_thinking:
        return None
    return ThinkMarks(
        tokenizer.think_start,
        tokenizer.think_end,
        tuple(tokenizer.think_start_tokens),
        tuple(tokenizer.think_end_tokens),
    )


def starts_thinking(tokenizer: Any, tokens: list[int]) -> bool:
    """Whether a chat prompt leaves the reasoning open, so that the answer begins inside it.

    As in mlx-lm, the last opening mark comes after the last closing one, and a format's own first state wins. But marks
    in earlier turns don't count: somebody may have written them.
    """
    if tokenizer.response_initial_state is not None:
        return bool(tokenizer.response_initial_state == "reasoning")
    if not tokenizer.has_thinking:
        return False
    ends = tokenizer.eos_token_ids
    turn = next((at + 1 for at in range(len(tokens) - 1, -1, -1) if tokens[at] in ends), 0)
    return bool(tokenizer.rfind_think_start(tokens, start=turn) > tokenizer.rfind_think_end(tokens, start=turn))


class ThinkingState:
    """Follows one sequence. At its start it thinks, may begin to, or is past it."""

    def __init__(self, marks: ThinkMarks, *, thinks: bool, may_think: bool) -> None:
        self._marks = marks
        self._recent: tuple[int, ...] = ()
        self.thinks = thinks
        self.may_think = may_think
        """Whether the next tokens may open the reasoning, which they can only at the very start."""
        self.tokens = 0
        """Tokens of reasoning so far."""

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that would open the reasoning from here; empty if it may not be opened."""
        return self._marks.start_ids[len(self._recent) :] if self.may_think else ()

    @property
    def closing(self) -> tuple[int, ...]:
        """The ids that end the reasoning."""
        return self._marks.end_ids

    def feed(self, token: int) -> bool:
        """Take the next token; True if it belongs to the reasoning or to its marks."""
        if self.may_think:
            if token != self.opening[0]:
                self.may_think = False
                return bool(self._recent)
            self._recent += (token,)
            if not self.opening:
                self.may_think, self.thinks, self._recent = False, True, ()
            return True
        if not self.thinks:
            return False
        self.tokens += 1
        end = self.closing
        self._recent = (*self._recent, token)[-len(end) :]
        if self._recent == end:
            self.thinks = False
        return True
