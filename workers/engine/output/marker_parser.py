"""Reasoning, function calls and visible text of one sequence, by the marks between them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from mlx_server.workers.engine.output.marker_table import NORMAL, REASONING, TOOL, MarkerTable
from mlx_server.workers.engine.output.quoted_code import QuotedCode
from mlx_server.workers.engine.output.tool_calls.call_block import Block
from mlx_server.workers.engine.output.tool_calls.calls import Rest, ToolCalls
from mlx_server.workers.engine.output.tool_calls.markup import Piece, Thought, VisibleText


@dataclass(slots=True)
class Doubt:
    """A mark of a call in code that may never be closed: the parser as it was before the mark, how many pieces there
    were, and all the text since, the mark included."""

    before: dict[str, Any]
    pieces: int
    text: list[str] = field(default_factory=list)


class MarkerParser:
    """The parser of one sequence's text.

    Marks count only in their place: reasoning opens before anything is said, calls begin outside code that the text
    quotes, and an end mark ends only what is open. Elsewhere they are plain text, and so is a block without a call.
    Whitespace beside a mark is dropped, unless there is visible text on both its sides.

    Code is quoted if it is closed (`QuotedCode`). Where a call's mark stands in code that is still open, the text from
    there on is held back until that is certain. If it is not closed in its line, its text or its reasoning, the mark
    counts, and the text is read again from there; but what the length limit has cut off is taken for code.
    """

    def __init__(self, states: MarkerTable, calls: ToolCalls, *, starts_thinking: bool) -> None:
        self._states = states
        self._calls = calls
        self._state = REASONING if starts_thinking and states.initial == NORMAL else states.initial
        self._bare = self._may_be_bare()
        self._reader: Block | None = None
        self._opened = ""
        """The mark that opened the block."""
        self._owed: set[str] = set()
        """End marks that may still come for what has ended without them."""
        self._code = QuotedCode()
        self._doubt: Doubt | None = None
        self._held = ""
        """Text that may become a mark."""
        self._space = self._thought_space = ""
        """Whitespace that becomes visible if more text of its kind follows."""
        self._marked = False
        """Whether there was a mark since the last visible text."""
        self._said = False
        self._thought = False
        self._left = False
        """Whether any mark has been read."""
        self._unseen = ""
        """Text outside every message; it is the answer if the model left the messages' marks out."""

    @property
    def thinking(self) -> bool:
        """Whether the next text is reasoning."""
        return self._state == REASONING and self._reader is None

    @property
    def complete(self) -> bool:
        """Whether the one call that was allowed has been made."""
        return self._calls.complete

    @property
    def calls(self) -> int:
        """The number of complete calls."""
        return self._calls.whole

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after more text."""
        if self._doubt is not None:
            self._doubt.text.append(text)
        self._consume(text)
        return self._taken()

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """The pieces that were held back, at the end of the text."""
        self._end_blocks(cut=cut)
        while self._doubt is not None and not cut and not self._code.answer(here=True):
            self._consume(self._read_again())
            self._end_blocks(cut=cut)
        self._doubt = None
        if not self.complete:
            self._show(self._held)
            if self._space and not self._marked:
                self._calls.pieces.append(VisibleText(self._space))
            if self._unseen and self._state == self._states.initial and not self._left:
                self._calls.pieces.append(VisibleText(self._unseen))
        return self._taken()

    def _end_blocks(self, *, cut: bool) -> None:
        while self._reader is not None and not self.complete:
            self._consume(self._after_block(self._reader.flush(cut=cut)))

    def _taken(self) -> list[Piece]:
        certain = len(self._calls.pieces)
        if self._doubt is not None:
            certain, self._doubt.pieces = self._doubt.pieces, 0
        pieces, self._calls.pieces = self._calls.pieces[:certain], self._calls.pieces[certain:]
        return pieces

    def _consume(self, text: str) -> None:
        while text and not self.complete:
            if self._reader is None:
                text = self._read(text)
            else:
                rest = self._reader.feed(text)
                text = "" if rest is None else self._after_block(rest)

    def _read(self, text: str) -> str:
        """Take text up to the next mark, and return what follows the mark."""
        text, self._held = self._held + text, ""
        if self._bare and self._state == NORMAL:
            if not text.strip():
                self._held = text
                return ""
            self._bare = False
            if text.lstrip().startswith("{"):
                self._open_block("", bare=True)
                return text
        marks = self._states.marks[self._state]
        found = marks.find(text)
        if found is None:
            certain = len(text) - marks.held(text)
            self._held = text[certain:]
            self._show(text[:certain])
            return "" if self._settled() else self._read_again()
        at, mark = found
        self._show(text[:at])
        if not self._settled(here=True):
            return self._read_again()
        return self._read_mark(mark, text[at:])

    def _read_mark(self, mark: str, text: str) -> str:
        """Take a mark that a text begins with, and return what follows it."""
        after = self._states.edges[self._state][mark]
        if not self._is_mark(mark):
            if after == TOOL and self._doubt is None:
                self._doubt = self._begin_doubt(text)
            self._show(mark)
        elif after == TOOL:
            self._open_block(mark)
            return text if mark == self._states.format.open else text[len(mark) :]
        elif self._doubt is not None and after != self._state:
            return self._read_again()
        else:
            self._enter(after)
            self._bare = self._bare or (mark in self._states.format.frame and self._may_be_bare())
        self._owed.discard(mark)
        return text[len(mark) :]

    def _may_be_bare(self) -> bool:
        return self._states.format.bare and self._calls.allowed

    def _begin_doubt(self, text: str) -> Doubt:
        before = vars(self) | {"_code": copy.deepcopy(self._code), "_owed": set(self._owed)}
        self._code.ask()
        return Doubt(before, len(self._calls.pieces), [text])

    def _settled(self, *, here: bool = False) -> bool:
        """Whether the text goes on: False if a mark that was taken for code is to be read again. `here`: a mark
        follows."""
        if self._doubt is None:
            return True
        closed = self._code.answer(here=here)
        if closed:
            self._doubt = None
        return closed is not False

    def _read_again(self) -> str:
        """Go back to a mark that was taken for code which is not closed, and return the text from there on."""
        doubt = self._doubt
        assert doubt is not None
        del self._calls.pieces[doubt.pieces :]
        vars(self).update(doubt.before)
        self._code.forget()
        return "".join(doubt.text)

    def _is_mark(self, mark: str) -> bool:
        """Whether a mark counts in this place."""
        thinking, format_ = self._states.thinking, self._states.format
        reasons = self._state == REASONING
        if mark in self._owed:
            return True
        if thinking is not None and mark == thinking.start:
            return not (self._thought if reasons else self._said)
        if thinking is not None and mark == thinking.end:
            return reasons or not self._said
        if self._states.edges[self._state][mark] == TOOL or mark in format_.frame:
            return not self._code.open
        return mark != format_.end or not self._calls.allowed

    def _enter(self, state: str) -> None:
        self._marked = self._left = True
        if state != self._state:
            self._state = state
            self._thought_space, self._thought = "", False
            self._code = QuotedCode()

    def _open_block(self, mark: str, *, bare: bool = False) -> None:
        thinking, format_ = self._states.thinking, self._states.format
        reasons = self._state == REASONING
        self._calls.only_known = reasons or (mark != "" and mark == format_.open)
        self._opened = mark
        self._reader = Block(self._calls, format_, thinking.end if thinking and reasons else None, bare=bare)

    def _after_block(self, rest: Rest) -> str:
        """The text after a block. A block without a call is text where it stood: a model may reason about calls."""
        self._reader = None
        if rest.failed:
            if self._opened in self._states.format.frame:
                self._enter(self._state)
            else:
                self._show(self._opened)
            return rest.text if self._opened != self._states.format.open else rest.text.removeprefix(self._opened)
        self._marked = self._left = True
        self._code = QuotedCode()
        (self._owed.discard if rest.closed else self._owed.add)(self._states.format.end)
        if self._state == REASONING and self._states.thinking is not None:
            self._owed.add(self._states.thinking.end)
        self._state = NORMAL
        return rest.text

    def _show(self, text: str) -> None:
        if text:
            self._code.feed(text)
        if self._state == NORMAL:
            text = self._space + text
            visible = text.rstrip()
            self._space = text[len(visible) :]
            if visible:
                first = self._marked and not self._said
                self._calls.pieces.append(VisibleText(visible.lstrip() if first else visible))
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
