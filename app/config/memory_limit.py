"""How much memory models may have together."""

from __future__ import annotations

import re

from mlx_server.app.machine.sizes import GIBIBYTE

RULE = "must be a number of GiB, such as 24, or a share of the machine's memory, such as 80%"


def parse_memory_limit(text: str) -> int:
    """Bytes. Raises ValueError, whose message says what is allowed."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(%|Gi?B?|)", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None or not (number := float(found[1])):
        raise ValueError(f"{RULE}.")
    if found[2] != "%":
        return round(number * GIBIBYTE)
    if number > 100:
        raise ValueError(f"{RULE}; more than 100% is not allowed.")
    from mlx_server.app.machine.memory import memory

    return round(memory().total_bytes * number / 100)
