"""The most that a worker may hold, and what goes for more: what MLX keeps for reuse, then kept prompts; then new rows
wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import psutil

from mlx_server.workers.allowance import Allowance
from mlx_server.workers.engine.runtime import platform

FADES = 0.99
"""What of a step's memory is still expected after another step."""

LEAST_LEFT = 48 << 20
"""What the system has to leave before a step: threads, tokenizers and libraries take some meanwhile."""


class Kept(Protocol):
    """What is kept for later requests and may go."""

    @property
    def nbytes(self) -> int:
        """The bytes that all of it takes."""

    def evict(self, nbytes: int) -> None:
        """Let go of so many bytes or a little more, the least recently used first."""


@dataclass(frozen=True, slots=True)
class Relief:
    """What goes, in bytes: MLX may have `reusable` for reuse, and of kept prompts `evicted` go. `fits`: there is room
    then."""

    reusable: int
    evicted: int
    fits: bool


def relief(left: int, reusable: int, prompts: int, more: float) -> Relief:
    """What has to go before `more` bytes are taken, of which `left` are free: MLX has `reusable` bytes for reuse, and
    `prompts` are kept."""
    over = int(left + reusable - more)
    evicted = min(max(0, -over), prompts)
    return Relief(max(0, over), evicted, over + evicted >= 0)


class OutOfMemoryError(MemoryError):
    """Raised when the system leaves too little for a step: MLX and its libraries die where they get nothing."""

    def __init__(self, left: int) -> None:
        super().__init__(f"the system leaves the worker {max(0, left) >> 20} MB, too few to compute with")


class MemoryBound:
    """Keeps a worker's own process below `limit_bytes`, None for no limit, and below what the operating system allows.
    Engine thread only.

    What counts is its resident memory, or MLX's arrays where they are more or are an accelerator's own; not what
    processes hold that it started. More is taken only by a step that needs more than any before it, while it lasts.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._kept: Kept | None = None
        self._process = psutil.Process()
        self._allowance = Allowance()
        self._base = 0
        """What cannot go: the process with a loaded model."""
        self._usual = 0
        """What is left to requests beside that, however low the limit: estimates may be too low."""
        self._step = 0.0
        """What a step takes while it lasts, as was seen."""

    def loaded(self, kept: Kept, usual_bytes: float) -> None:
        """The model is loaded; `kept` may go for more. A usual request's `usual_bytes` are never refused."""
        platform.release()
        self._kept = kept
        self._base, self._usual = self._held(), int(usual_bytes)

    def left(self, free: int, usual_bytes: float) -> float:
        """What of `free` bytes may be taken beside what is held now; a usual request's in any case."""
        platform.release()
        left = self._left()
        return free if left is None else min(free, max(usual_bytes, left))

    def has_room(self, more: float) -> bool:
        """Whether `more` bytes could be taken, and a step, once all has gone that may go."""
        found = self._relief(more)
        return found is None or found.fits

    def make_room(self, more: float = 0.0) -> bool:
        """Let go of what has to, so that `more` bytes can be taken, and a step; whether they can."""
        found = self._relief(more)
        if found is None:
            return True
        mx.set_cache_limit(min(found.reusable, platform.REUSED_BYTES))
        if self._kept is not None and found.evicted:
            self._kept.evict(found.evicted)
            platform.release()
            # What running rows share with it is still there.
            return self.has_room(more)
        if mx.get_cache_memory() > found.reusable:
            platform.release()
        return found.fits

    def holds_alone(self, more: float) -> bool:
        """Whether `more` bytes could be taken below the limit if nothing ran and nothing were kept."""
        return self.limit_bytes is None or self._base + more + self._step <= self._limit

    @contextmanager
    def step(self) -> Iterator[None]:
        """See what a step takes that it does not keep. Raises OutOfMemoryError if the system has too little for it."""
        left = self._allowance.left_bytes()
        if left is not None and left < LEAST_LEFT + self._step:
            self.make_room(LEAST_LEFT)
            left = self._allowance.left_bytes()
            if left is not None and left < LEAST_LEFT:
                raise OutOfMemoryError(left)
        elif left is None and self.limit_bytes is None:
            yield
            return
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        yield
        self._step = max(FADES * self._step, mx.get_peak_memory() - max(before, mx.get_active_memory()))

    @property
    def _limit(self) -> int:
        return max(self.limit_bytes or 0, self._base + self._usual)

    def _relief(self, more: float) -> Relief | None:
        """None where there is no limit."""
        left = self._left()
        kept = 0 if self._kept is None else self._kept.nbytes
        return None if left is None else relief(left, mx.get_cache_memory(), kept, more + self._step)

    def _left(self) -> int | None:
        """What may be taken now; None for what the machine has."""
        left = [] if self.limit_bytes is None else [self._limit - self._held()]
        allowed = self._allowance.left_bytes()
        return min([*left, *([] if allowed is None else [allowed])], default=None)

    def _held(self) -> int:
        found = platform.memory()
        resident = int(self._process.memory_info().rss) if found.unified else 0
        return max(resident, found.active + found.cache)
