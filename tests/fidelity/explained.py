"""Which notes say what differs. A note about something else announces nothing: what it leaves unsaid is silent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["equal", "announced", "refused", "silent"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was compared: after how many tokens of a text of how many, and by what name."""

    tokens: int
    length: int
    name: str


def everywhere(number: int, place: Place) -> bool:
    """Of notes on a whole type."""
    return True


def beyond(number: int, place: Place) -> bool:
    """Of notes on what happens after so many tokens."""
    return place.tokens > number


def within(number: int, place: Place) -> bool:
    """Of notes on texts of so many tokens at most."""
    return place.length <= number


def seeing(number: int, place: Place) -> bool:
    """Of notes on pictures."""
    return place.name.startswith("with a picture")


EXPLANATIONS: dict[str, Callable[[int, Place], bool]] = {
    r"mlx-vlm computes this model differently from transformers: (?:a picture's|it sees) ": seeing,
    r"mlx-(?:lm|vlm) computes this (?:type|model) differently from transformers: ": everywhere,
    r"does not compute the sliding window of (\d+) tokens that config.json names: ": beyond,
    r"texts of up to (\d+) tokens are computed with the factors of longer ones ": within,
    r"mlx-vlm may not compute the scaled rotary positions that config.json asks for ": everywhere,
    r"tokens see those behind them, too, which config.json ": everywhere,
    r"inputs of more than (\d+) tokens see all of themselves in every layer": beyond,
    r"in inputs of more than (\d+) tokens, these see further than the window ": beyond,
}
"""Patterns in notes, with the number that they name, and where that differs which they tell of."""


def explains(note: str, place: Place) -> bool:
    """Whether a note says why something differs there."""
    for pattern, reaches in EXPLANATIONS.items():
        if found := re.search(pattern, note):
            return reaches(int(found[1]) if found.groups() else 0, place)
    return False


def judged(notes: Sequence[str], off: Iterable[tuple[Place, float]], equal: float) -> tuple[State, str]:
    """How a comparison went whose differences are given by their places, and which notes tell of them, or how far off
    it is where none does."""
    far = [(place, part) for place, part in off if not part < equal]
    if not far:
        return "equal", "; ".join(notes)
    untold = [(place, part) for place, part in far if not any(explains(note, place) for note in notes)]
    if untold:
        return "silent", ", ".join(f"{part:.4f} {place.name}" for place, part in untold)
    return "announced", "; ".join(note for note in notes if any(explains(note, place) for place, _ in far))
