"""The fixed prompt set: distinct English instructions, the same on every machine and in every run.

Each asks for a long answer, so that a small model reaches `max_tokens` instead of ending early.
In SmolLM2's tokens a prompt is about 27 long by itself and 57 inside its chat template.
"""

import random
from collections.abc import Iterator
from itertools import islice

TRADES = ("baker", "sailor", "teacher", "farmer", "painter", "doctor", "miner", "singer", "clerk", "pilot")
PLACES = ("Norway", "Peru", "Japan", "Kenya", "Canada", "Greece", "India", "Cuba", "Egypt", "Chile")
THINGS = ("a silver key", "an old map", "a blue stone", "a lost letter", "a tiny robot", "a glass bird")
SPOTS = ("under a bridge", "in a cave", "behind a mill", "on a train", "near a lake", "inside a clock")
TASKS = ("cross the sea", "save the town", "find a friend", "climb a hill", "win a race", "build a ship")
LIMITS = (
    "winter comes",
    "the sun sets",
    "the war ends",
    "the ice melts",
    "the king returns",
    "the rain stops",
)


def prompt_texts(count: int, first: int = 0, seed: int = 0) -> list[str]:
    """`count` prompts of the endless seeded sequence, from the one with index `first`."""
    return list(islice(_distinct(seed), first, first + count))


def _distinct(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        text = (
            f"Write a very long story about a {rng.choice(TRADES)} from {rng.choice(PLACES)}"
            f" who finds {rng.choice(THINGS)} {rng.choice(SPOTS)}"
            f" and must {rng.choice(TASKS)} before {rng.choice(LIMITS)}."
        )
        if text not in seen:
            seen.add(text)
            yield text
