"""A text in pieces that are spoken one after the other: the first is heard while the next is computed."""

from __future__ import annotations

import unicodedata

import pysbd

LONGEST = 300
"""Characters of a piece; models lose the thread in longer ones."""

LANGUAGES = frozenset(pysbd.languages.LANGUAGE_CODES)

SPOKEN = ("L", "N", "S")
"""Unicode's categories of what is read aloud: letters, numbers and symbols."""

SPOKEN_MARKS = frozenset("%&@#")
"""Punctuation with a name that is read aloud."""


def sentences(text: str, language: str) -> list[str]:
    """The sentences of a text, long ones cut at commas or words. Numbers and abbreviations stay whole."""
    segmenter = pysbd.Segmenter(language=language if language in LANGUAGES else "en", clean=False)
    found = (sentence.strip() for line in text.splitlines() if line.strip() for sentence in segmenter.segment(line))
    return [piece for sentence in found if sentence for piece in cut(sentence)]


def is_spoken(text: str) -> bool:
    """Whether there is anything in it that makes a sound: spaces, control characters and most punctuation make none."""
    return any(unicodedata.category(one)[0] in SPOKEN or one in SPOKEN_MARKS for one in text)


def cut(sentence: str) -> list[str]:
    """Pieces of at most LONGEST characters, cut after a comma, else between words, else anywhere."""
    pieces = []
    while len(sentence) > LONGEST:
        head = sentence[:LONGEST]
        marks = [head.rfind(mark) for mark in (", ", "; ", ": ", "\N{FULLWIDTH COMMA}", "\N{IDEOGRAPHIC COMMA}")]
        at = max(max(marks) + 1, 0) or head.rfind(" ") or LONGEST
        at = at if at > 0 else LONGEST
        pieces.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    return [*pieces, sentence]
