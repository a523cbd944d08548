"""From the tokens of a 30-second window to segments, and to where the next window begins. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

FRAMES = 3000
"""Of a window, each of 10 ms."""

FRAMES_PER_STEP = 2
"""A time token counts in steps of so many frames."""

STEP_S = 0.02

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""What a window is tried at, one after the other, until it comes out well."""

MOST_COMPRESSION = 2.4
LEAST_LOGPROB = -1.0
NO_SPEECH = 0.6
FORGETTING_TEMPERATURE = 0.5
"""What came out at a higher temperature is no context for the next window."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment of a window: its tokens, and its times in steps of 0.02 s from the window's beginning."""

    tokens: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A window's segments, and how many frames after its beginning the next window begins."""

    pieces: tuple[Piece, ...]
    advance: int


def cut(tokens: Sequence[int], frames: int, first_timestamp: int) -> Cut:
    """The segments of a window of so many frames; ids from `first_timestamp` on are times.

    A segment that has no end yet is heard again in the next window, unless the window ends with it.
    """
    is_time = [token >= first_timestamp for token in tokens]
    ends = [at for at in range(1, len(tokens)) if is_time[at - 1] and is_time[at]]
    closed = is_time[-2:] == [False, True]
    if not ends:
        times = [token - first_timestamp for token in tokens if token > first_timestamp]
        last = times[-1] if times else frames // FRAMES_PER_STEP
        return Cut((Piece(tuple(tokens), 0, last),), frames)
    if closed:
        ends.append(len(tokens))
    pieces, begin = [], 0
    for end in ends:
        part = tokens[begin:end]
        pieces.append(Piece(tuple(part), part[0] - first_timestamp, part[-1] - first_timestamp))
        begin = end
    return Cut(tuple(pieces), frames if closed else pieces[-1].end * FRAMES_PER_STEP or frames)


def comes_out_badly(compression: float, avg_logprob: float, no_speech: float) -> bool:
    """Whether a window is worth another try: it repeats itself, or is improbable and not silence."""
    if no_speech > NO_SPEECH and avg_logprob < LEAST_LOGPROB:
        return False
    return compression > MOST_COMPRESSION or avg_logprob < LEAST_LOGPROB


def is_silence(avg_logprob: float, no_speech: float) -> bool:
    """Whether nothing is said in a window."""
    return no_speech > NO_SPEECH and avg_logprob <= LEAST_LOGPROB


def compression_ratio(text: str) -> float:
    """How many times smaller a text can be written: much, if it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
