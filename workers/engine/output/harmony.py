"""OpenAI's Harmony: messages on channels, each with a header that says whom it is for.

`<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`, and a call is
`<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>`. The recipient may stand in the
message's role instead, and models leave spaces out.
See https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from mlx_server.workers.engine.output.tool_calls.calls import NO_ARGUMENTS, ToolCalls
from mlx_server.workers.engine.output.tool_calls.loose_json import LooseJson, plain_arguments
from mlx_server.workers.engine.output.tool_calls.marker_matcher import MarkerMatcher
from mlx_server.workers.engine.output.tool_calls.markup import Piece, Thought, VisibleText

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKS = MarkerMatcher((START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS))
RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
PEOPLE = ("user", "assistant")
"""Recipients that are no functions."""
BETWEEN_MESSAGES = "\n\n"
"""What stands between messages that are made one."""
ANALYSIS = re.compile(r"<\|channel\|>\s*analysis")


class In(Enum):
    """What is being read."""

    HEADER = auto()
    REASONING = auto()
    ANSWER = auto()
    CALL = auto()


class HarmonyText:
    """The parser of one sequence's text. A message to a function is a call; arguments that are no object stay as
    written. Several messages of reasoning are one with empty lines between, and so are several of the answer.

    A mark inside a string of a call's arguments is part of the string, unless the text ends there.
    """

    def __init__(self, calls: ToolCalls, *, starts_thinking: bool) -> None:
        self._calls = calls
        self._in = In.REASONING if starts_thinking else In.HEADER
        self._held = ""
        self._header = ""
        self._messages = 0
        self._said: set[In] = set()
        """The kinds of messages of which there is text."""
        self._between = ""
        """What comes before the text of this message, if it has any."""
        self._call = -1
        self._arguments: LooseJson | None = None
        self._raw = ""
        """Arguments that are held back, as they may be no object."""

    @property
    def thinking(self) -> bool:
        """Whether the next text is reasoning."""
        return self._in is In.REASONING

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
        text, self._held = self._held + text, ""
        while not self.complete and (found := MARKS.find(text)) is not None:
            at, mark = found
            self._show(text[:at])
            text = text[at:]
            if self._quotes():
                if len(text) == len(mark):
                    break
                self._show(mark)
            else:
                self._mark(mark)
            text = text[len(mark) :]
        if not self.complete:
            certain = 0 if MARKS.find(text) else len(text) - MARKS.held(text)
            self._held = text[certain:]
            self._show(text[:certain])
        return self._taken()

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """The pieces that were held back. A text without any message is an answer whose header the prompt or a grammar
        left out."""
        if not self.complete:
            if MARKS.find(self._held) is None:
                self._show(self._held)
            if self._in is In.CALL and cut and self._held not in ENDS:
                self._cut_call()
            elif self._in is In.CALL:
                self._end_call()
            elif self._in is In.HEADER and not self._messages and CHANNEL not in self._header:
                self._calls.pieces.append(VisibleText(self._header))
        return self._taken()

    def _taken(self) -> list[Piece]:
        pieces, self._calls.pieces = self._calls.pieces, []
        return [piece for piece in pieces if not isinstance(piece, VisibleText) or piece.text]

    def _show(self, text: str) -> None:
        match self._in:
            case In.HEADER:
                self._header += text
            case In.REASONING if text:
                self._calls.pieces.append(Thought(self._begun() + text))
            case In.ANSWER if text:
                self._calls.pieces.append(VisibleText(self._begun() + text))
            case In.CALL:
                self._argue(text)

    def _begun(self) -> str:
        """What comes before the next text of a message, which has some from now on."""
        self._said.add(self._in)
        between, self._between = self._between, ""
        return between

    def _mark(self, mark: str) -> None:
        if mark == MESSAGE and self._in is In.HEADER:
            self._open()
        elif mark in ENDS or mark == START:
            self._end_message()
            self._header = ""
        elif mark == CHANNEL:
            self._end_message()
            self._header += mark
        elif self._in is In.HEADER:
            self._header += " "
        else:
            self._show(mark)

    def _end_message(self) -> None:
        if self._in is In.CALL:
            self._end_call()
        self._in = In.HEADER

    def _open(self) -> None:
        """End a header, which says what its message is."""
        self._messages += 1
        found = RECIPIENT.search(self._header)
        recipient = None if found is None or found.group(1) in PEOPLE else found.group(1)
        if recipient is not None and self._calls.takes(recipient):
            self._call = self._calls.begin(recipient)
            self._arguments, self._raw = None, ""
            self._in = In.CALL
        elif recipient is None and ANALYSIS.search(self._header):
            self._in = In.REASONING
        else:
            self._in = In.ANSWER
        self._between = BETWEEN_MESSAGES if self._in in self._said else ""
        self._header = ""

    def _quotes(self) -> bool:
        """Whether the next text is inside a string of a call's arguments."""
        return self._in is In.CALL and self._arguments is not None and self._arguments.in_string

    def _argue(self, text: str) -> None:
        """Take more of a call's arguments."""
        if self._arguments is None:
            self._raw += text
            if not self._raw.lstrip().startswith("{"):
                return
            self._arguments, text, self._raw = LooseJson(), self._raw.lstrip(), ""
        if self._arguments.over:
            self._raw += text
        else:
            self._calls.more(self._call, self._arguments.feed(text))
            self._raw = self._arguments.unread if self._arguments.over else ""

    def _cut_call(self) -> None:
        self._calls.more(self._call, self._raw if self._arguments is None else self._arguments.cut())
        if self._arguments is not None and self._arguments.over:
            self._calls.end()

    def _end_call(self) -> None:
        if self._arguments is None:
            self._calls.more(self._call, plain_arguments(self._raw) or NO_ARGUMENTS)
        else:
            self._calls.more(self._call, self._arguments.finish())
            self._calls.say(self._raw)
        self._calls.end()
        self._in, self._header = In.HEADER, ""
