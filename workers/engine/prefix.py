"""What several choices of one prompt have in common: computed once, then forked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from mlx_server.workers.sequence import Key, Sequence


@dataclass(eq=False, slots=True)
class SharedPrefix:
    """A prompt but for its last token. The first choice to run computes it, the others start from its cache."""

    missing: int
    """Choices that have not started yet."""
    leader: Key | None = None
    cache: list[Any] | None = field(default=None, repr=False)

    def keep(self, cache: list[Any]) -> None:
        """Have the cache ready for the others. Engine thread only."""
        mx.eval([layer.state for layer in cache])
        self.cache = cache

    def take(self) -> list[Any]:
        """A fork of the cache: its arrays are shared until they are written to."""
        assert self.cache is not None
        return copy.deepcopy(self.cache)


def joins_prefix(sequence: Sequence) -> bool:
    """The sequence begins where the others of its prompt do; one that is replayed has gone on already."""
    return sequence.prefix is not None and not sequence.emitted and len(sequence.prompt) > 1
