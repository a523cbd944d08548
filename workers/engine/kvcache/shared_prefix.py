"""The prompt that several choices share: computed once, then forked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from mlx_server.workers.engine.sequence import Key, Sequence


@dataclass(eq=False, slots=True)
class SharedPrefix:
    """A prompt without its last token. The first choice to run computes it, the others start from its cache."""

    missing: int
    """Choices that have not started."""
    leader: Key | None = None
    cache: Any = field(default=None, repr=False)
    """The cache that the others start from, once it is there, with whatever else their engine needs."""

    def keep(self, cache: Any) -> None:
        """Offer the cache to the others; its arrays are evaluated. Engine thread only."""
        self.cache = cache

    def take(self) -> Any:
        """A fork of the cache, whose arrays are shared until they are written. The last choice to start releases it."""
        fork = copy.deepcopy(self.cache)
        self.started()
        return fork

    def started(self) -> None:
        """Note that one more choice has started."""
        self.missing -= 1
        if not self.missing:
            self.cache = None

    def left(self, key: Key) -> None:
        """Note that a choice has ended. If it did not reach the fork, the next choice leads."""
        if self.leader == key and self.cache is None:
            self.leader = None


def joins_prefix(sequence: Sequence) -> bool:
    """Whether a sequence starts from the prompt that it shares; a replayed one is past it."""
    return sequence.prefix is not None and not sequence.emitted and len(sequence.prompt) > 1
