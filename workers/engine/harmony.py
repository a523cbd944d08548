"""OpenAI's Harmony: messages on channels, each with a header that says whom it is for.

`<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`, and a call is
`<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>`.
See https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from mlx_server.workers.engine.calls import NO_ARGUMENTS, Calls, is_json
from mlx_server.workers.engine.marks import Marks
from mlx_server.workers.engine.markup import Piece, Said, Thought

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKS = Marks((START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS))
RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
ANALYSIS = re.compile(r"<\|channel\|>\s*analysis")


class In(Enum):
    """What is being read."""

    HEADER = auto()
    REASONING = auto()
    ANSWER = auto()
    CALL = auto()


class HarmonyText:
    """One sequence's text. A message to a function that is not the request's is shown as text."""

    def __init__(self, calls: Calls, *, starts_thinking: bool) -> None:
        self._calls = calls
        self._in = In.REASONING if starts_thinking else In.HEADER
        self._held = ""
        self._header = ""
        self._messages = 0
        self._call = -1
        self._arguments = ""

    @property
    def thinking(self) -> bool:
        """What comes now is reasoning."""
        return self._in is In.REASONING

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
        text, self._held = self._held + text, ""
        while not self.complete and (found := MARKS.find(text)) is not None:
            at, mark = found
            self._show(text[:at])
            self._mark(mark)
            text = text[at + len(mark) :]
        if not self.complete:
            certain = len(text) - MARKS.held(text)
            self._held = text[certain:]
            self._show(text[:certain])
        return self._taken()

    def flush(self) -> list[Piece]:
        """What was held back. A text without any message is an answer whose header the prompt or a grammar left out."""
        if not self.complete:
            self._show(self._held)
            if self._in is In.CALL and is_json(self._arguments):
                self._end_call()
            elif self._in is In.HEADER and not self._messages and CHANNEL not in self._header:
                self._calls.pieces.append(Said(self._header))
        return self._taken()

    def _taken(self) -> list[Piece]:
        pieces, self._calls.pieces = self._calls.pieces, []
        return [piece for piece in pieces if not isinstance(piece, Said) or piece.text]

    def _show(self, text: str) -> None:
        match self._in:
            case In.HEADER:
                self._header += text
            case In.REASONING if text:
                self._calls.pieces.append(Thought(text))
            case In.ANSWER:
                self._calls.pieces.append(Said(text))
            case In.CALL:
                self._arguments += text
                self._calls.more(self._call, text)

    def _mark(self, mark: str) -> None:
        if mark == MESSAGE and self._in is In.HEADER:
            self._open()
        elif mark in ENDS or mark == START:
            if self._in is In.CALL:
                self._end_call()
            self._in, self._header = In.HEADER, ""
        elif mark == CHANNEL:
            self._in = In.HEADER
            self._header += mark

    def _open(self) -> None:
        """A header is over: it says what its message is."""
        self._messages += 1
        recipient = RECIPIENT.search(self._header)
        if recipient is not None and recipient.group(1) in self._calls.names:
            self._call = self._calls.begin(recipient.group(1))
            self._arguments = ""
            self._in = In.CALL
        elif recipient is None and ANALYSIS.search(self._header):
            self._in = In.REASONING
        else:
            self._in = In.ANSWER
        self._header = ""

    def _end_call(self) -> None:
        if not self._arguments.strip():
            self._calls.more(self._call, NO_ARGUMENTS)
        self._calls.end()
        self._in, self._header = In.HEADER, ""
