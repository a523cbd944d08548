"""Items of arrays, and names of objects, that must differ: a second check on each token that a grammar allows.

A token that would complete what is there already is taken back before it is drawn. Where a token could hide an item
from the check (several items in one, the end of a number and what follows) it is forbidden, too: every text can be
written with smaller tokens.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from mlx_server.workers.engine.grammar.json_watch import Frame, JsonWatch, key_of

INTEGER = re.compile(rb"-?[0-9]{1,4000}")

MOST_LOOKS = 120
"""Tokens that are tried on a copy of the grammar, for one step."""

FEWEST_LOOKS = 30
"""The same where there are so many items that each of them takes longer."""

MOST_LETTERS = 12
"""Bytes of a token that is tried so."""

Packed = npt.NDArray[np.uint8]
"""A set of tokens, [width]: token i is bit i % 8 of byte i // 8."""
"""A set of tokens, one bit each, as llguidance has them."""

NUMBER = re.compile(rb"-?[0-9]")
WHOLE_NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
HIDING = re.compile(rb", ?[^\s].*[\"\]},el]|^[-+.0-9eE]+[,\]} ]|\\u", re.DOTALL)
"""More than one item, the end of a number, and a character that can be written in two ways."""
CROSSING = re.compile(rb".,\s?\S", re.DOTALL)
"""The end of one item with the beginning of the next."""
LEAVING = re.compile(rb"[\]}]\s?,\s?\S")
"""The end of an item that has parts with the beginning of the next."""
ENDING = re.compile(rb"[\"\]}]")
LATE_CLOSING = re.compile(rb".[^\]}]*[\]}]", re.DOTALL)


class Matcher(Protocol):
    """What is used of llguidance's matchers."""

    def compute_bitmask(self) -> bytes: ...
    def compute_ff_tokens(self) -> list[int]: ...
    def consume_token(self, token: int) -> bool: ...
    def is_stopped(self) -> bool: ...
    def is_accepting(self) -> bool: ...
    def is_error(self) -> bool: ...
    def get_error(self) -> str: ...
    def deep_copy(self) -> Self: ...


class Words:
    """A vocabulary's tokens by their bytes."""

    def __init__(self, texts: list[bytes], width: int) -> None:
        """`width` is that of the sets in bytes."""
        self.texts = texts
        self._width = width
        self._sorted = sorted((text, token) for token, text in enumerate(texts) if text)
        self._keys = [text for text, _ in self._sorted]
        self._exact: dict[bytes, list[int]] = {}
        for text, token in self._sorted:
            self._exact.setdefault(text, []).append(token)
        self._ending = {text[: found.end()] for text in self._exact for found in ENDING.finditer(text)}
        self.hiding = self.of(token for token, text in enumerate(texts) if HIDING.search(text))
        self.crossing = self.of(token for token, text in enumerate(texts) if CROSSING.search(text))
        self.leaving = self.of(token for token, text in enumerate(texts) if LEAVING.search(text))
        self.late_closing = self.of(token for token, text in enumerate(texts) if LATE_CLOSING.match(text))
        self.ends = [*self.beginning(b","), *self.beginning(b"]")]

    def of(self, tokens: Iterable[int]) -> Packed:
        """These tokens as a set: uint8 [width], one bit per token."""
        bits = np.zeros(self._width * 8, np.bool_)
        bits[list(tokens)] = True
        return np.packbits(bits, bitorder="little")

    def beginning(self, start: bytes) -> list[int]:
        """The tokens whose bytes begin with these."""
        if ENDING.match(start, len(start) - 1) and start not in self._ending:
            return []
        return [token for _, token in self._sorted[slice(*self._range(start))]]

    def exactly(self, texts: set[bytes]) -> list[int]:
        """The tokens with exactly one of these texts, the longest first."""
        there = sorted(texts & self._exact.keys(), key=lambda text: (-len(text), text))
        return [token for text in there for token in self._exact[text]]

    def _range(self, start: bytes) -> tuple[int, int]:
        return bisect.bisect_left(self._keys, start), bisect.bisect_left(self._keys, start + b"\xff" * 4)


class DistinctMatcher:
    """A matcher of documents in which some things must differ."""

    def __init__(self, matcher: Matcher, watch: JsonWatch, words: Words) -> None:
        self._matcher = matcher
        self._watch = watch
        self._words = words

    def deep_copy(self) -> DistinctMatcher:
        """One that goes on by itself."""
        return DistinctMatcher(self._matcher.deep_copy(), self._watch.copied(), self._words)

    def compute_ff_tokens(self) -> list[int]:
        """As llguidance's."""
        return self._matcher.compute_ff_tokens()

    def is_stopped(self) -> bool:
        """As llguidance's."""
        return self._matcher.is_stopped()

    def is_accepting(self) -> bool:
        """As llguidance's."""
        return self._matcher.is_accepting()

    def is_error(self) -> bool:
        """As llguidance's."""
        return self._matcher.is_error()

    def get_error(self) -> str:
        """As llguidance's."""
        return self._matcher.get_error()

    def consume_token(self, token: int) -> bool:
        """Go on by a token; False if it is not allowed."""
        taken = self._matcher.consume_token(token)
        if taken and token < len(self._words.texts):
            self._watch.feed(self._words.texts[token])
        return taken

    def compute_bitmask(self) -> bytes:
        """The tokens that may come next."""
        mask = self._matcher.compute_bitmask()
        if not self._watch.writing:
            return mask
        allowed = np.frombuffer(mask, np.uint8) & ~self._words.hiding
        for depth, frame in enumerate(self._watch.frames):
            if frame.distinct:
                allowed &= ~self._repeating(frame, depth, allowed)
        return allowed.tobytes()

    def _repeating(self, frame: Frame, depth: int, allowed: Packed) -> Packed:
        """Tokens that would write again what a frame has, or lead to nothing else."""
        if not frame.array and not frame.naming:
            return self._words.of(())
        written = b"" if frame.start is None else bytes(self._watch.text[frame.start :])
        sets = [self._words.late_closing] if frame.array and written[:1] in (b"", b"{", b"[") else []
        sets += self._closing(frame, written, depth)
        search = self._search(frame)
        sets += [search.repeating(written), self._words.of(search.dead_ends(self._matcher, written, allowed))]
        if frame.array and frame is self._watch.frames[-1]:
            sets += [self._words.crossing, self._words.of(self._nothing_behind(frame, written, allowed))]
        elif frame.array:
            sets.append(self._words.leaving)
        banned: Packed = np.bitwise_or.reduce(sets)
        return banned

    def _nothing_behind(self, frame: Frame, written: bytes, allowed: Packed) -> list[int]:
        """Tokens that begin a further item where there is no other one left."""
        if NUMBER.match(written):  # which ends with what follows
            frame = frame.copied()
            frame.put(written)
        seen, search = frame.seen, self._search(frame)
        return [
            token
            for token in self._words.beginning(b",")
            if seen and has(allowed, token) and search.dead(self._matcher, token, self._words.texts[token][1:].lstrip())
        ]

    def _search(self, frame: Frame) -> Search:
        if frame.steady:
            return Search(self._words, frame.seen, frame.alive, frame.dead)
        return Search(self._words, frame.seen, set(), set())

    def _closing(self, frame: Frame, written: bytes, depth: int) -> list[Packed]:
        """The end of an object or array that is equal to another."""
        at_its_end = len(self._watch.frames) == depth + 2 and not self._watch.within_text
        if not at_its_end or not frame.keys or written[:1] not in (b"{", b"["):
            return []
        closer = b"}" if written[:1] == b"{" else b"]"
        if key_of(written + closer) in frame.keys:
            return [self._words.of(self._words.beginning(closer))]
        return []


class Search:
    """What may be written beside what is there already."""

    def __init__(self, words: Words, seen: list[bytes], alive: set[bytes], dead: set[bytes]) -> None:
        """`seen` is sorted. What is found is put down in `alive`, texts that lead to something else, and `dead`."""
        self._words = words
        self._seen = seen
        self._left = min(MOST_LOOKS, max(FEWEST_LOOKS, MOST_LOOKS * MOST_LOOKS // max(1, len(seen))))
        self._alive = alive
        self._dead = dead

    @cached_property
    def _numbers(self) -> set[float]:
        return {number_of(item) for item in self._beginning(b"-", b":") if WHOLE_NUMBER.fullmatch(item)}

    def _beginning(self, start: bytes, end: bytes) -> list[bytes]:
        """Items from the one text up to the other."""
        return self._seen[bisect.bisect_left(self._seen, start) : bisect.bisect_left(self._seen, end)]

    def repeating(self, written: bytes) -> Packed:
        """The tokens, as a set uint8 [width], that end what is written as an item that is there already."""
        tokens: list[int] = []
        if WHOLE_NUMBER.fullmatch(written) and number_of(written) in self._numbers:
            tokens += self._words.ends
        for item in self._beginning(written, written + b"\xff"):
            if not NUMBER.match(item):
                tokens += self._words.beginning(item[len(written) :])
                tokens += self._words.beginning(b" " + item) if not written else []
        return self._words.of(tokens)

    def dead_ends(self, matcher: Matcher, written: bytes, allowed: Packed) -> list[int]:
        """The tokens of `allowed`, a set uint8 [width], after which only items that are there already can follow."""
        return [
            token
            for token in self._leading(written)
            if has(allowed, token) and self.dead(matcher, token, written + self._words.texts[token])
        ]

    def dead(self, matcher: Matcher, token: int, written: bytes) -> bool:
        """Whether a token leads to nothing else; `written` is what there is of the item then."""
        if written in self._alive or written in self._dead:
            return written in self._dead
        if self._left == 0:
            return False
        self._left -= 1
        ahead = matcher.deep_copy()  # which takes the longer the more is written
        if not ahead.consume_token(token):
            return False
        if self._leads_nowhere(ahead, written):
            self._dead.add(written)
            return True
        self._alive.update(written[:size] for size in range(1, len(written) + 1))
        return False

    def _leads_nowhere(self, ahead: Matcher, written: bytes) -> bool:
        allowed = np.frombuffer(ahead.compute_bitmask(), np.uint8) & ~self._words.hiding
        leading = self._leading(written)
        beside = allowed & ~self._words.of(leading)
        repeating = self.repeating(written)
        if (beside & ~repeating).any():
            return False
        texts = self._words.texts
        going = (each for each in leading if has(allowed & ~repeating, each))
        return all(self.dead(ahead, each, (written + texts[each]).lstrip()) for each in going)

    def _leading(self, written: bytes) -> list[int]:
        """Tokens that write on at something that is there, and don't end it."""
        starts: set[bytes] = set()
        for item in self._beginning(written, written + b"\xff"):
            rest = item[len(written) :]
            whole = len(rest) if NUMBER.match(item) else len(rest) - 1
            starts.update(rest[:size] for size in range(1, min(whole, MOST_LETTERS) + 1))
        if not written:
            starts |= {b" " + start for start in starts} | {b" "}
        return self._words.exactly(starts)


def has(tokens: Packed, token: int) -> bool:
    """Whether a token is in a set, uint8 [width]."""
    return bool(tokens[token // 8] >> (token % 8) & 1)


def number_of(text: bytes) -> float:
    """A number as a client reads it."""
    return int(text) if INTEGER.fullmatch(text) else float(text)
