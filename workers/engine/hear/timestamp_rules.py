"""Which tokens may come next in a transcript with times. Pure: tokens in, bounds out.

The rules are those of the Whisper paper's own decoder: times come in pairs, never go back, and the first is early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LATEST_START = 50
"""The first time is at most a second, in steps of 0.02 s."""


class Allowed(NamedTuple):
    """What may come next: `text`, the `end` of the transcript (also where text may), and times, as token ids from
    `earliest` to `latest`."""

    text: bool
    end: bool
    earliest: int
    latest: int


def allowed_after(tokens: Sequence[int], first_timestamp: int, vocab_size: int) -> Allowed:
    """What may follow these tokens of a window's transcript; ids from `first_timestamp` on are times."""
    latest = vocab_size - 1
    if not tokens:
        return Allowed(False, False, first_timestamp, min(first_timestamp + LATEST_START, latest))
    last_is_time = tokens[-1] >= first_timestamp
    paired = len(tokens) < 2 or tokens[-2] >= first_timestamp
    last_time = next((token for token in reversed(tokens) if token >= first_timestamp), first_timestamp)
    if not last_is_time:
        return Allowed(True, True, last_time + 1, latest)
    if paired:  # a segment begins: its text comes
        return Allowed(True, True, latest + 1, latest)
    return Allowed(False, True, last_time, latest)
