"""How much reasoning a template can ask for, as its text tells it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from mlx_server.schemas.internal.efforts import EFFORTS

COMPARED = re.compile(r"""reasoning_effort\s*[=!]=\s*(["'])(\w+)\1""")
LISTED = re.compile(r"""reasoning_effort\s+(?:not\s+)?in\s*[\[(]([^\])]*)[\])]""")
WORD = re.compile(r"\w+")

HARMONY_MARK = "<|channel|>"
HARMONY_EFFORTS = frozenset({"low", "medium", "high"})
"""What Harmony's models have learned; their template writes any word."""


def known_efforts(texts: Iterable[str]) -> frozenset[str]:
    """The efforts that templates tell apart; none where that can't be told.

    A template that compares has something for all others, too: that is as good as `medium`.
    """
    text = "\n".join(texts)
    listed = {word for match in LISTED.finditer(text) for word in WORD.findall(match[1])}
    compared = {match[2] for match in COMPARED.finditer(text)}
    found = listed or (compared | {"medium"} if len(compared - {"none"}) > 1 else set())
    if not found and HARMONY_MARK in text:
        return HARMONY_EFFORTS
    return frozenset(found.intersection(EFFORTS))


def nearest(effort: str, known: Collection[str]) -> str:
    """The known effort that is most like this one, of two the smaller; itself where none is known. Reasoning is not
    turned off for whoever asks for some."""
    wanted = EFFORTS.index(effort)
    choices = [one for one in EFFORTS if one in known and (one != "none" or effort == "none")]
    return min(choices, key=lambda one: abs(EFFORTS.index(one) - wanted), default=effort)
