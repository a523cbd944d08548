"""Steps that check guesses, as wide as chance has it."""

from __future__ import annotations

import random
from typing import Any

from mlx_server.workers.engine.propose.worth import MOST, Plan, Worth


class Whims(Worth):
    """Steps of any width, with a draft's proposals or without, whatever they cost."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def best(self, rows: int, guesses: Any, drafting: int = 0) -> Plan:
        return Plan(self._random.randint(1, 1 + MOST), self._random.random())
