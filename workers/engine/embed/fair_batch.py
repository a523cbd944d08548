"""Which inputs go through the model next, as a pure function of how long they are."""

from __future__ import annotations

from collections.abc import Sequence

Pick = tuple[int, int]
"""A request's place in the line, and which of its waiting inputs."""


def next_batch(waiting: Sequence[Sequence[int]], budget: int) -> list[Pick]:
    """The inputs of the next batch: `waiting` has each request's, as lengths in tokens, longest first.

    First every request in turn gives its longest input, so that a small request is never kept waiting by a large one;
    then, while there is room, all in turn give the longest of theirs that makes the batch no longer, so that little
    is padding. A batch costs its rows times its longest input, and no more than `budget`; an input that is longer
    goes alone. At least one input is picked if any waits.
    """
    picks: list[Pick] = []
    longest = 0
    for place, lengths in enumerate(waiting):
        if not lengths:
            continue
        width = max(longest, lengths[0])
        if picks and (len(picks) + 1) * width > budget:
            break
        picks.append((place, 0))
        longest = width
    return picks + fill(waiting, picks, longest, budget)


def fill(waiting: Sequence[Sequence[int]], picks: Sequence[Pick], longest: int, budget: int) -> list[Pick]:
    """More inputs, none longer than the longest, for the room that is left."""
    room = budget // longest - len(picks) if longest else 0
    begun = {place for place, _ in picks}
    more: list[Pick] = []
    nexts = [first_of_at_most(lengths, longest, int(place in begun)) for place, lengths in enumerate(waiting)]
    while room > 0 and any(at < len(lengths) for at, lengths in zip(nexts, waiting, strict=True)):
        for place, lengths in enumerate(waiting):
            if nexts[place] < len(lengths) and room > 0:
                more.append((place, nexts[place]))
                nexts[place] += 1
                room -= 1
    return more


def first_of_at_most(lengths: Sequence[int], most: int, start: int) -> int:
    """The place of the first length that is not above `most`, from `start` on."""
    return next((at for at in range(start, len(lengths)) if lengths[at] <= most), len(lengths))
