"""Engines whose steps check guesses: as wide as chance has it, with sequences that come and go."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from support.engines import GREEDY, SEEDED, Outcome, Player, alone, random_prompt, sequence

from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.propose.worth import MOST, Plan, Worth
from mlx_server.workers.engine.sequence import Key, Sequence

ROWS = 8


class Whims(Worth):
    """Steps of any width, with a draft's proposals or without, whatever they cost."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def best(self, rows: int, guesses: Any, drafting: int = 0) -> Plan:
        return Plan(self._random.randint(1, 1 + MOST), self._random.random())


def check_all_say_what_they_say_alone(
    engine: Engine, model: Any, rng: random.Random, count: int, prepare: Callable[[Sequence, list[int]], object]
) -> list[Sequence]:
    """Have `count` sequences join and some of them leave, a few at a time. `prepare` gets each with what it says alone.

    Greedy ones must say just that. Gives all of them.
    """
    player = Player(engine)
    sequences: dict[Key, Sequence] = {}
    expected: dict[Key, Outcome] = {}
    left: set[Key] = set()
    while len(sequences) < count or engine.busy:
        running = [key for key, outcome in player.outcomes.items() if outcome.end is None and key not in left]
        if len(sequences) < count and len(running) < ROWS and rng.random() < 0.5:
            prompt = random_prompt(rng, model, rng.choice([10, 40, 200]))
            one = sequence(len(sequences), prompt, rng.choice([1, 2, 20, 60]), rng.choice([GREEDY, GREEDY, SEEDED]))
            sequences[one.key], expected[one.key] = one, alone(model, prompt, one.max_tokens)
            prepare(one, expected[one.key].tokens)
            player.add(one)
        if running and rng.random() < 0.05:
            left.add(leaving := rng.choice(running))
            engine.remove(leaving)
        if engine.busy:
            player.step()
    for key, one in sequences.items():
        if one.sampling is GREEDY:
            assert one.emitted == expected[key].tokens[: len(one.emitted)]
            assert key in left or player.outcomes[key] == expected[key]
    return list(sequences.values())
