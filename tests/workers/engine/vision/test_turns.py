"""Which prompts are read when, without a model."""

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, cast

from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Key, Sequence
from mlx_server.workers.engine.vision import prefill_queue
from mlx_server.workers.engine.vision.looking import Looker, Viewing
from mlx_server.workers.engine.vision.prefill import Prefill
from mlx_server.workers.engine.vision.together import Joinable

TEXT, SHOWN = 0, 1
"""The second part of keys: prompts of SHOWN are read by themselves."""


@dataclass
class Begun:
    """The beginning of a prompt."""

    left: int
    kind: Hashable | None
    untouched: bool = True


class SomeKinds(Joinable):
    """Prompts of TEXT are read together."""

    def kind(self, prefill: Prefill) -> Hashable | None:
        return cast(Begun, prefill).kind


@dataclass
class Pictures(Looker):
    """Each prompt of SHOWN has so many pictures, and each takes a pass."""

    each: int = 0
    tower: None = field(default=None, init=False)

    def viewing(self, sequence: Sequence, start: int) -> Viewing:
        return Viewing(sequence, list(range(self.each if sequence.key[1] == SHOWN else 0)))

    def look(self, viewings: list[Viewing], *, running: int) -> bool:
        unseen = next((one.unseen for one in viewings if one.unseen), [])
        return bool(unseen) and unseen.pop(0) >= 0


class PromptReader(prefill_queue.PromptReader):
    """Reads each prompt to its end."""

    def __init__(self, pictures: int = 0) -> None:
        looker, prefixes = Pictures(pictures), PrefixStore(0)
        super().__init__(None, PrefillBudget(None, 512), looker, prefixes, 8, SomeKinds())

    def _begin(self, reading: Any) -> Any:
        return Begun(len(reading.sequence.context), "text" if reading.sequence.key[1] == TEXT else None)

    def _finish(self, chosen: Any) -> Any:
        return [prefill_queue.PrefilledPrompts([one.sequence for one in chosen], [], cast(Any, None), None)]

    def _read_alone(self, reading: Any, chunk: int) -> Any:
        return self._finish([reading])

    def has(self, key: Key, tokens: int) -> None:
        """Take in a prompt of so many tokens."""
        self.add(Sequence(key, [1] * tokens, 5), None)

    def reads(self, *, running: int) -> list[Key]:
        """What a step reads."""
        found = self.step(running=running, since=time.monotonic())
        return [one.key for read in found for one in cast(prefill_queue.PrefilledPrompts, read).sequences]


def test_a_prompt_that_is_read_alone_has_its_turn_among_others_of_its_length() -> None:
    reader = PromptReader()
    reader.has((0, SHOWN), 200)
    read: list[Key] = []
    for number in range(1, 6):
        reader.has((number, TEXT), 150)
        read += reader.reads(running=0)
    assert (0, SHOWN) in read


def test_a_short_prompt_does_not_wait_for_all_pictures_of_others() -> None:
    reader = PromptReader(pictures=10)
    for number in range(1, 8):
        reader.has((number, SHOWN), 3000)
    reader.has((0, TEXT), 20)
    assert [reader.reads(running=1) for _ in range(2)] == [[], [(0, TEXT)]]


def test_one_that_comes_later_does_not_wait_for_pictures_of_those_that_are_overdue() -> None:
    for running in (0, 1):
        reader = PromptReader(pictures=10)
        for number in range(1, 8):
            reader.has((number, SHOWN), 3000)
        for _ in range(9):
            reader.reads(running=running)
        reader.has((0, TEXT), 20)
        assert (0, TEXT) in [key for _ in range(2) for key in reader.reads(running=running)]


def test_beside_running_rows_a_step_either_looks_or_reads() -> None:
    reader = PromptReader(pictures=2)
    for number in range(2):
        reader.has((number, SHOWN), 300)
    assert [len(reader.reads(running=1)) for _ in range(6)] == [0, 0, 1, 0, 0, 1]
