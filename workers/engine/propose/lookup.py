"""What a sequence has said before is likely to come again: proposals from its own tokens, without a draft model."""

from __future__ import annotations

GRAM = 3
"""So many tokens that came before, in this order, are a beginning to go on from."""

RESUMES_WITHIN = 48
"""After a difference, what is copied mostly goes on within so many tokens of where it was: there, two that are the same
are enough to go on from."""

LEARNS = 0.125
"""How much the latest guess counts in the odds."""

FIRST_ODDS = 0.5


class Lookup:
    """The tokens of a sequence and, where they repeat what came before, how that went on."""

    def __init__(self, earlier: list[int], predicted: list[int], tokens: list[int]) -> None:
        """`tokens` are the sequence's, `predicted` is likely to follow them, `earlier` is what else may come again."""
        tokens = [*earlier, *predicted, *tokens]
        self._tokens = tokens
        grams = zip(*(tokens[start:] for start in range(GRAM)), strict=False)
        self._after: dict[tuple[int, ...], int] = dict(zip(grams, range(GRAM, len(tokens)), strict=False))
        """Where the latest occurrence of a gram went on."""
        self.source: int | None = None
        """Where the sequence goes on, if it goes on as it did."""
        self._left: tuple[int, int] | None = None
        """Where it was when it went another way, and how many tokens there were then."""
        self.odds = FIRST_ODDS
        """How often a guess was right of late, from 0 to 1."""
        if predicted:
            self.source = len(earlier)
        else:
            self._find()

    def guess(self, most: int) -> list[int]:
        """At most `most` tokens that may come next: as it went on, over and over where that was just now."""
        if self.source is None:
            return []
        found = self._tokens[self.source : self.source + most]
        return (found * (1 + most // len(found)))[:most] if len(found) < most else found

    def follow(self, token: int) -> None:
        """Take in the next token."""
        source = self.source
        right = source is not None and self._tokens[source] == token
        if source is not None:
            self.odds += LEARNS * (right - self.odds)
        if len(self._tokens) >= GRAM:
            self._after[tuple(self._tokens[-GRAM:])] = len(self._tokens)
        self._tokens.append(token)
        if source is not None and right:
            self.source = source + 1
            return
        if source is not None:
            self._left, self.source = (source, len(self._tokens)), None
        self._find()

    def _find(self) -> None:
        """Look for where the latest tokens came before: near where the sequence went another way, or anywhere."""
        tokens = self._tokens
        if self._left is not None:
            start, length = self._left
            end = start
            while end := index(tokens, tokens[-1], end + 1, min(start + RESUMES_WITHIN, len(tokens) - 1)):
                if tokens[end - 1] == tokens[-2]:
                    self.source, self._left = end + 1, None
                    return
            if len(tokens) - length > RESUMES_WITHIN:
                self._left = None
        self.source = self._after.get(tuple(tokens[-GRAM:]))


def index(tokens: list[int], token: int, start: int, stop: int) -> int:
    """The first place of a token from `start` up to `stop`, which must be above 0; 0 if it is not there."""
    try:
        return tokens.index(token, start, stop)
    except ValueError:
        return 0
