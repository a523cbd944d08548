"""Replaces the words of recorded sessions: each by another of its length, the same one each time.

What a session is made of stays: its structure, names, marks, numbers and lengths, and which parts are alike.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

WORD = re.compile(r"##S.*?##E|</?[\w-]+[^<>\n]*>|[A-Za-z]{3,}", re.DOTALL)
"""Words, and what is kept whole where words stand in it: scripts and tags."""

PROSE = {"text", "content", "instructions", "description", "system", "output", "thinking", "query"}
"""Members that hold what somebody wrote."""


class Replacer:
    """Takes its words from a vocabulary, so that a word stays about as many tokens."""

    def __init__(self, words: Iterable[str]) -> None:
        by_length: dict[int, set[str]] = defaultdict(set)
        for word in words:
            if word.isascii() and word.isalpha() and word.islower():
                by_length[len(word)].add(word)
        self._words = {length: sorted(found) for length, found in by_length.items()}

    def body(self, value: Any, *, prose: bool = False) -> Any:
        """A request's body; `prose`: it stands where people write."""
        if isinstance(value, dict):
            return {
                key: self.body(inner, prose=isinstance(inner, str) and key in PROSE) for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self.body(inner, prose=prose) for inner in value]
        return WORD.sub(self._replaced, value) if prose and isinstance(value, str) else value

    def _replaced(self, found: re.Match[str]) -> str:
        word = found.group()
        if not word.isalpha():
            return word
        choices = self._words.get(len(word))
        if not choices:
            half = len(word) // 2
            return WORD.sub(self._replaced, word[:half]) + WORD.sub(self._replaced, word[half:])
        number = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8])
        chosen = choices[number % len(choices)]
        if word.isupper():
            return chosen.upper()
        return chosen.capitalize() if word[0].isupper() else chosen
