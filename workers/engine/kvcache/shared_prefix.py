"""The prompt that several choices share: computed once, then forked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from mlx_server.workers.engine.sequence import Key, Sequence


@dataclass(eq=False, slots=True)
class SharedPrefix:
    """A prompt without its last token. The first choice to run computes it, the others start from its cache."""

    choices: int
    leader: Key | None = None
    """The choice that the others wait for."""
    cache: Any = field(default=None, repr=False)
    """The cache that the others start from, once it is there, with whatever else their engine needs."""
    _begun: set[Key] = field(default_factory=set)
    """Choices that have started, however often: one that is interrupted starts again."""

    def keep(self, cache: Any) -> None:
        """Offer the cache to the others; its arrays are evaluated. Engine thread only."""
        self.cache = cache

    def take(self, key: Key) -> Any:
        """A fork of the cache for a choice, whose arrays are shared until they are written. The last choice to start
        releases it."""
        fork = copy.deepcopy(self.cache)
        self._started(key)
        return fork

    def lead(self, key: Key) -> None:
        """Have a choice read the prompt, while others wait if they have not all started."""
        self.leader = key
        self._started(key)

    def _started(self, key: Key) -> None:
        self._begun.add(key)
        if len(self._begun) == self.choices:
            self.cache = self.leader = None

    def left(self, key: Key) -> None:
        """Note that a choice has ended or is interrupted. If it did not reach the fork, the next choice leads."""
        if self.leader == key and self.cache is None:
            self.leader = None
            self._begun.discard(key)


def joins_prefix(sequence: Sequence) -> bool:
    """Whether a sequence starts from the prompt that it shares; a replayed one is past it."""
    return sequence.prefix is not None and not sequence.emitted and len(sequence.prompt) > 1
