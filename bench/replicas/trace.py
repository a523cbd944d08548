"""A seeded trace of conversations: which one says something next, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """A conversation's turn, counted from 0, which comes at `at_s`."""

    at_s: float
    conversation: int
    turn: int


def make_trace(conversations: int, turns: int, rate: float, seed: int = 0) -> list[Arrival]:
    """Each conversation's turns in their order, all conversations mixed by chance, as a Poisson process of `rate`
    arrivals a second. Half of the conversations are open at first; each one that ends makes room for another."""
    rng = random.Random(seed)
    waiting = list(range(conversations))
    rng.shuffle(waiting)
    open_ones = [waiting.pop() for _ in range(max(1, conversations // 2))]
    said = dict.fromkeys(range(conversations), 0)
    arrivals: list[Arrival] = []
    at_s = 0.0
    while open_ones:
        at_s += rng.expovariate(rate)
        one = rng.choice(open_ones)
        arrivals.append(Arrival(at_s, one, said[one]))
        said[one] += 1
        if said[one] == turns:
            open_ones.remove(one)
            if waiting:
                open_ones.append(waiting.pop())
    return arrivals
