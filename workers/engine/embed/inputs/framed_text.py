"""A text with what a model wants around it, of which nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class FramedText(NamedTuple):
    """What is tokenised together: a client's `text`, and what stands before and after it."""

    text: str
    head: str = ""
    tail: str = ""

    @property
    def whole(self) -> str:
        """What the model reads."""
        return f"{self.head}{self.text}{self.tail}"


Frame = Callable[[str, str], FramedText]
"""What a model makes of a prompt, as it may have one for each kind of input, and a text."""


def plain_frame(prompt: str, text: str) -> FramedText:
    """One after the other, as sentence-transformers does; where texts are cut at their start, the prompt is first."""
    return FramedText(prompt + text)


def owners(encoding: Any, framed: FramedText) -> Sequence[int | None]:
    """For each token of an encoding 0 if it is of the text itself, None if of the frame or special."""
    of: Sequence[int | None] = encoding.sequence_ids
    if not framed.head and not framed.tail:
        return of
    first, end = len(framed.head), len(framed.head) + len(framed.text)
    return [
        owner if first <= start and stop <= end else None
        for owner, (start, stop) in zip(of, encoding.offsets, strict=True)
    ]
