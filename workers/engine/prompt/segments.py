"""Prompts are tokenised piece by piece, cut at their marks, and pieces that came before are not tokenised again: of an
agent's next turn only what is new."""

from __future__ import annotations

import re
import string
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LIMIT_BYTES = 1 << 26

SHARE = 64
"""A text and its ids take less than this part of its KV states, and without these they are of little use."""

ENTRY_BYTES = 512
"""What an entry takes beside its text and its ids."""

EDGES = frozenset(string.punctuation) - {"_"}
"""What a token begins and ends with whose neighbours can't change what others take with them: white space that some
strip, letters where some want a word's end."""

LEAST = 512
"""Characters from one cut to the next: many small pieces would take longer to look up."""

TRIED = 2
"""Tokens to cut at that are tried out; all are of one kind."""

PROBES = (
    "user\nHello, wörld!\n",
    " leading and trailing ",
    "",
    "\n\n  x = {'a': 1}\n",
    "e\u0301 \u4f60\u597d \U0001f642\ufe0f\t1234567",
    "\u2581under ## it's",
    "<",
    "A",
    "\u00a0\r\n",
    ">",
)
"""Pieces with what tokenizers treat in ways of their own, at their beginnings and ends most of all."""

Ids = npt.NDArray[np.int32]
"""Token ids [T]."""


class SegmentedTokenizer:
    """Tokenises as the tokenizer does, by pieces where that gives the same, which is tried out once. One thread only.

    What is kept is its owner's alone, as in the cache of prompts: from how quick an answer is nobody learns what
    others have sent. The least recently used pieces leave when all take more than `limit_bytes`. Pieces have at least
    `least` characters, but for a text's last.
    """

    def __init__(self, tokenizer: Any, limit_bytes: int = LIMIT_BYTES, least: int = LEAST) -> None:
        self._tokenizer = tokenizer
        self._limit = limit_bytes
        self._least = least
        self._kept: OrderedDict[tuple[str, str], Ids] = OrderedDict()
        self._bytes = 0
        self._cuts, self._marks = cuts_of(tokenizer)
        self._exact = {special: self._is_exact(special=special) for special in (False, True)}

    @property
    def nbytes(self) -> int:
        """What is kept takes about so much memory."""
        return self._bytes

    def splits(self, *, special: bool) -> bool:
        """Whether pieces are tokenised alike on their own, where special tokens are added or not."""
        return self._exact[special]

    def encode(self, text: str, owner: str | None, *, special: bool) -> list[int]:
        """The ids of a text, with those that the tokenizer adds if `special`. Nothing is kept where `owner` is None."""
        if owner is None or not self._exact[special]:
            return list(self._tokenizer.encode(text, add_special_tokens=special))
        ids: list[int] = np.concatenate([self._ids(owner, piece) for piece in self._pieces(text, self._least)]).tolist()
        return ids

    def _pieces(self, text: str, least: int) -> Iterator[str]:
        """A text in pieces, each to before one of its marks: those of a text that begins alike are the same up to where
        it differs."""
        start = 0
        for match in self._marks.finditer(text) if self._cuts else ():
            if match.start() >= start + max(least, 1) and match.group() in self._cuts:
                yield text[start : match.start()]
                start = match.start()
        yield text[start:]

    def _ids(self, owner: str, piece: str) -> Ids:
        known = self._kept.get((owner, piece))
        if known is not None:
            self._kept.move_to_end((owner, piece))
            return known
        ids = self._kept[owner, piece] = self._encoded(piece)
        self._bytes += size(piece, ids)
        while self._bytes > self._limit:
            (_, oldest), left = self._kept.popitem(last=False)
            self._bytes -= size(oldest, left)
        return ids

    def _encoded(self, piece: str) -> Ids:
        return np.array(self._tokenizer.encode(piece, add_special_tokens=False), np.int32)

    def _is_exact(self, *, special: bool) -> bool:
        """Whether the pieces of texts that try everything give what the whole texts give."""
        texts = [text for cut in sorted(self._cuts)[:TRIED] for text in probes(cut)]
        return bool(texts) and all(
            list(self._tokenizer.encode(text, add_special_tokens=special))
            == [id_ for piece in self._pieces(text, 1) for id_ in self._encoded(piece).tolist()]
            for text in texts
        )


def probes(cut: str) -> tuple[str, ...]:
    """Texts with a token between, before and after everything."""
    return cut.join(PROBES), cut + cut.join(reversed(PROBES)) + cut, f"A{cut}"


def limit_beside(states_bytes: int) -> int:
    """The most bytes that are kept of texts, where KV states take up to `states_bytes`."""
    return min(LIMIT_BYTES, states_bytes // SHARE)


def size(piece: str, ids: Ids) -> int:
    """About how many bytes an entry with ids int32 [T] takes; a character may take four."""
    return ENTRY_BYTES + (len(piece) if piece.isascii() else 4 * len(piece)) + ids.nbytes


def cuts_of(tokenizer: Any) -> tuple[frozenset[str], re.Pattern[str]]:
    """The added tokens that a text can be cut before, and what finds all that the library finds before it normalises a
    text, as it does: the first, and of those the longest. There are none to cut before for a tokenizer that is not the
    library's, or reads special tokens as text."""
    if not getattr(tokenizer, "is_fast", False) or tokenizer.split_special_tokens:
        return frozenset(), re.compile("(?!)")
    added = [one for one in tokenizer.backend_tokenizer.get_added_tokens_decoder().values() if not one.normalized]
    longest_first = sorted((one.content for one in added), key=len, reverse=True)
    stripping_or_words = {one.content for one in added if one.lstrip or one.rstrip or one.single_word}
    cuts = {text for text in longest_first if text[0] in EDGES and text[-1] in EDGES} - stripping_or_words
    return frozenset(cuts), re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
