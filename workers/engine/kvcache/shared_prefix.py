"""What several choices of one prompt have in common: computed once, then forked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from mlx_server.workers.engine.sequence import Key, Sequence


@dataclass(eq=False, slots=True)
class SharedPrefix:
    """A prompt but for its last token. The first choice to run computes it, the others start from its cache."""

    missing: int
    """Choices that have not started yet."""
    leader: Key | None = None
    cache: Any = field(default=None, repr=False)
    """What the others start from, once it is there: the cache, with whatever else their engine needs."""

    def keep(self, cache: Any) -> None:
        """Have the cache ready for the others; its arrays are evaluated. Engine thread only."""
        self.cache = cache

    def take(self) -> Any:
        """A fork of the cache, whose arrays are shared until they are written to. The last one to start takes it
        away."""
        fork = copy.deepcopy(self.cache)
        self.started()
        return fork

    def started(self) -> None:
        """One more choice has started."""
        self.missing -= 1
        if not self.missing:
            self.cache = None

    def left(self, key: Key) -> None:
        """A choice has ended. If it did not come to the fork, the next choice will."""
        if self.leader == key and self.cache is None:
            self.leader = None


def joins_prefix(sequence: Sequence) -> bool:
    """The sequence begins where the others of its prompt do; one that is replayed has gone on already."""
    return sequence.prefix is not None and not sequence.emitted and len(sequence.prompt) > 1
