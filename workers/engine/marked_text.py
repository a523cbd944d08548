"""Reasoning, function calls and visible text of one sequence, by the marks between them."""

from __future__ import annotations

from mlx_server.workers.engine.call_block import Block
from mlx_server.workers.engine.calls import Calls, Rest
from mlx_server.workers.engine.markup import Piece, Said, Thought
from mlx_server.workers.engine.states import NORMAL, REASONING, TOOL, States


class MarkedText:
    """One sequence's text.

    Whitespace beside a mark is not shown, unless there is visible text on both its sides. A block that is no call
    becomes the text that it is, without its marks.
    """

    def __init__(self, states: States, calls: Calls, *, starts_thinking: bool) -> None:
        self._states = states
        self._calls = calls
        self._state = REASONING if starts_thinking and states.initial == NORMAL else states.initial
        self._bare = states.format.bare and bool(calls.names)
        self._reader: Block | None = None
        self._held = ""
        """What may become a mark."""
        self._space = self._thought_space = ""
        """Whitespace that is shown if more text of its kind follows."""
        self._marked = False
        """There was a mark since the last visible text."""
        self._said = False
        self._thought = False
        self._left = False
        """Some mark has been read."""
        self._unseen = ""
        """What stood outside every message; it is all there is if the model left the messages' marks out."""

    @property
    def thinking(self) -> bool:
        """What comes now is reasoning."""
        return self._state == REASONING and self._reader is None

    @property
    def complete(self) -> bool:
        """The one call that was allowed has been made."""
        return self._calls.complete

    @property
    def calls(self) -> int:
        """How many calls have been made whole."""
        return self._calls.whole

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after more text."""
        self._consume(text)
        return self._taken()

    def flush(self) -> list[Piece]:
        """What was held back, at the end of the text."""
        while self._reader is not None and not self.complete:
            self._consume(self._after_block(self._reader.flush()))
        if not self.complete:
            self._show(self._held)
            if self._space and not self._marked:
                self._calls.pieces.append(Said(self._space))
            if self._unseen and self._state == self._states.initial and not self._left:
                self._calls.pieces.append(Said(self._unseen))
        return self._taken()

    def _taken(self) -> list[Piece]:
        pieces, self._calls.pieces = self._calls.pieces, []
        return pieces

    def _consume(self, text: str) -> None:
        while text and not self.complete:
            if self._reader is None:
                text = self._read(text)
            else:
                rest = self._reader.feed(text)
                text = "" if rest is None else self._after_block(rest)

    def _read(self, text: str) -> str:
        """Show text up to the next mark, and give what follows that."""
        text, self._held = self._held + text, ""
        if self._bare and self._state == NORMAL:
            if not text.strip():
                self._held = text
                return ""
            self._bare = False
            if text.lstrip().startswith("{"):
                self._reader = Block(self._calls, self._states.format)
                return text
        marks = self._states.marks[self._state]
        found = marks.find(text)
        if found is None:
            certain = len(text) - marks.held(text)
            self._held = text[certain:]
            self._show(text[:certain])
            return ""
        at, mark = found
        self._show(text[:at])
        self._enter(self._states.edges[self._state][mark])
        return text[at + len(mark) :]

    def _enter(self, state: str) -> None:
        self._marked = self._left = True
        if state == TOOL:
            thinking = self._states.thinking
            leave = thinking.end if thinking is not None and self._state == REASONING else None
            self._reader = Block(self._calls, self._states.format, leave)
            return
        if state != self._state:
            self._state = state
            self._thought_space, self._thought = "", False

    def _after_block(self, rest: Rest) -> str:
        """What made no call goes on where it began: a model may think about calls."""
        self._reader = None
        if not rest.failed or self._state != REASONING:
            self._state = NORMAL
        self._marked = True
        return rest.text

    def _show(self, text: str) -> None:
        if self._state == NORMAL:
            text = self._space + text
            visible = text.rstrip()
            self._space = text[len(visible) :]
            if visible:
                first = self._marked and not self._said
                self._calls.pieces.append(Said(visible.lstrip() if first else visible))
                self._said, self._marked = True, False
        elif self._state == REASONING:
            text = self._thought_space + text
            thought = text.rstrip()
            self._thought_space = text[len(thought) :]
            if thought:
                self._calls.pieces.append(Thought(thought if self._thought else thought.lstrip()))
                self._thought = True
        else:
            self._unseen += text
