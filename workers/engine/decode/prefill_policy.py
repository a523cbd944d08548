"""Which prompts are read next: short ones first, but long ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 3
"""Turns of others after which the prompt that has waited longest is next, however long it is."""

PADDING = 16
"""Prompts are read together if the longest has at most twice as many tokens as the shortest, plus this many."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A prompt with `left` tokens to read, passed over `passed` times in a row.

    `alone`: it can't be read together with others now. `whole`: it is short, and read to its end at once.
    """

    left: int
    passed: int = 0
    alone: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """The prompts to read, by number, and the most tokens to read of each."""

    numbers: tuple[int, ...]
    tokens: int


def next_turn(waiting: Sequence[Waiting], *, chunk: int, together: int) -> Turn:
    """The prompts to read next, of at least one with tokens left; `waiting` is in the order of their last turns.

    `chunk` bounds the tokens of one prompt, `together` those of several that are read to their ends at once, padding
    included; what is read whole has no bound of its own. The prompt with the fewest tokens left is next, with those of
    similar length beside it; one that was passed over PATIENCE times goes first.
    """
    numbers = sorted(range(len(waiting)), key=lambda number: waiting[number].left)
    overdue = [number for number in range(len(waiting)) if waiting[number].passed >= PATIENCE]
    first = overdue[0] if overdue else numbers[0]
    longest = waiting[first].left
    if waiting[first].alone or not (waiting[first].whole or longest <= chunk):
        return Turn((first,), chunk)
    chosen = [first]
    most = 2 * longest + PADDING
    for number in numbers:
        one = waiting[number]
        if number == first or one.alone or one.left > most or not (one.whole or one.left <= chunk):
            continue
        longest = max(longest, one.left)
        if longest * (len(chosen) + 1) > together:
            break
        chosen.append(number)
    return Turn(tuple(chosen), max(chunk, longest))
