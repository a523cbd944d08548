"""Whether a text ends inside code that Markdown quotes."""

from __future__ import annotations

import re

OPENING = re.compile(r"\s*(`{3,}|~{3,})([^`]*)\Z")
ENDING = re.compile(r"\s*(`{3,}|~{3,})(?=\s*\Z|[<\[])")
WORD = re.compile(r"\w")
RUNS = re.compile("`+|[^`]+")
LONGEST_FENCE = 200
"""Characters of the longest line that may be a fence."""


class QuotedCode:
    """Follows a text. Blocks between fences, and spans between backticks, are code.

    - A fence is a line that begins with three or more backticks or tildes, with anything but backticks behind them.
    - A block ends with a fence of as many or more alone, before its line break already, or with a mark behind it. In a
      block, a fence with a word right behind it opens a block inside.
    - A span ends with as many backticks as it begins with, in the same line.
    - What is never closed is no code. It is `open` as long as it may be, and `ask` and `answer` tell it of one place.
    """

    def __init__(self) -> None:
        self._fences: list[str] = []
        """Those that opened blocks, the innermost last."""
        self._line = ""
        """How the line begins."""
        self._spans: list[int] = []
        """The numbers of backticks that may have opened spans in the line, each inside those before."""
        self._run = 0
        """The number of backticks that the line ends with so far."""
        self._asked_blocks = self._asked_spans = 0
        """How many were open in the place that was asked for."""
        self._answer: bool | None = None

    @property
    def open(self) -> bool:
        """Whether the next text is code, or may be."""
        return self._blocks() > 0 if self._fences else bool(self._spans_here())

    def feed(self, text: str) -> None:
        """Take more text."""
        first, *others = text.split("\n")
        self._read(first)
        for line in others:
            self._end_line()
            self._read(line)

    def ask(self) -> None:
        """Ask whether the code that is open here will be closed."""
        self._asked_blocks = len(self._fences)
        self._asked_spans = 0 if self._fences else len(self._spans_here())
        self._answer = None

    def answer(self, *, here: bool = False) -> bool | None:
        """The answer; None if it is not certain yet. `here`: a mark follows, or the text ends, so that a fence or
        backticks are complete."""
        if self._answer is None and here:
            return self._closed(self._blocks(), len(self._spans_here())) or None
        return self._answer

    def forget(self) -> None:
        """Take what is open for text."""
        self._fences, self._spans, self._run, self._line = [], [], 0, "text"

    def _closed(self, blocks: int, spans: int) -> bool:
        return blocks < self._asked_blocks or (not self._fences and spans < self._asked_spans)

    def _blocks(self) -> int:
        """How many blocks are open if the line ends here."""
        found = ENDING.match(self._line) if self._fences else None
        return len(self._fences) - (found is not None and found.group(1).startswith(self._fences[-1]))

    def _spans_here(self) -> list[int]:
        """The spans that are open if the backticks end here."""
        if not self._run:
            return self._spans
        if self._run in self._spans:
            return self._spans[: self._spans.index(self._run)]
        return [*self._spans, self._run]

    def _read(self, text: str) -> None:
        """Take more text of the line."""
        self._line = (self._line + text)[:LONGEST_FENCE]
        for run in RUNS.findall(text):
            if run[0] == "`":
                self._run += len(run)
            else:
                self._end_run()

    def _end_run(self) -> None:
        self._spans, self._run = self._spans_here(), 0
        if self._closed(len(self._fences), len(self._spans)):
            self._answer = self._answer is not False

    def _end_line(self) -> None:
        self._end_run()
        blocks = self._blocks()
        found = OPENING.match(self._line) if len(self._line) < LONGEST_FENCE else None
        if blocks < len(self._fences):
            self._fences.pop()
        elif found is not None and (not self._fences or WORD.match(found.group(2))):
            self._fences.append(found.group(1))
        self._line, self._spans = "", []
        if self._asked_spans and self._fences:
            self._asked_blocks, self._asked_spans = 1, 0
        elif self._asked_spans and self._answer is None:
            self._answer = False
        elif self._asked_blocks > len(self._fences) and self._answer is None:
            self._answer = True
