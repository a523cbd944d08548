"""The most that a worker may hold, and what goes for more: what MLX keeps for reuse, then kept prompts; then new rows
wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import psutil

from mlx_server.workers.engine.runtime import platform

FADES = 0.99
"""What of a step's memory is still expected after another step."""


class Kept(Protocol):
    """What is kept for later requests and may go."""

    @property
    def nbytes(self) -> int:
        """The bytes that all of it takes."""

    def evict(self, nbytes: int) -> None:
        """Let go of so many bytes or a little more, the least recently used first."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of the `whole` worker, and what of them may go: MLX's memory for reuse, and kept prompts."""

    whole: int
    reusable: int = 0
    prompts: int = 0


@dataclass(frozen=True, slots=True)
class Relief:
    """What goes, in bytes: MLX may have `reusable` for reuse, and of kept prompts `evicted` go. `fits`: there is room
    then."""

    reusable: int
    evicted: int
    fits: bool


def relief(limit: int, held: Held, more: float) -> Relief:
    """What has to go before `more` bytes are taken, if all together is to stay below `limit`."""
    left = int(limit - (held.whole - held.reusable) - more)
    evicted = min(max(0, -left), held.prompts)
    return Relief(max(0, left), evicted, left + evicted >= 0)


class MemoryBound:
    """Keeps a worker's own process below `limit_bytes`, None for no limit. Engine thread only.

    What counts is its resident memory, or MLX's arrays where they are more or are an accelerator's own; not what
    processes hold that it started. More is taken only by a step that needs more than any before it, while it lasts.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._kept: Kept | None = None
        self._process = psutil.Process()
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
        self._base, self._usual = self._held().whole, int(usual_bytes)

    def left(self, free: int, usual_bytes: float) -> float:
        """What of `free` bytes may be taken beside what is held now; a usual request's in any case."""
        if self.limit_bytes is None:
            return free
        platform.release()
        return min(free, max(usual_bytes, self.limit_bytes - self._held().whole))

    def has_room(self, more: float) -> bool:
        """Whether `more` bytes could be taken, and a step, once all has gone that may go."""
        return self.limit_bytes is None or relief(self._limit, self._held(), more + self._step).fits

    def make_room(self, more: float = 0.0) -> bool:
        """Let go of what has to, so that `more` bytes can be taken, and a step; whether they can."""
        if self.limit_bytes is None:
            return True
        found = relief(self._limit, self._held(), more + self._step)
        mx.set_cache_limit(min(found.reusable, platform.REUSED_BYTES))
        if self._kept is not None and found.evicted:
            self._kept.evict(found.evicted)
            platform.release()
            # What running rows share with it is still there.
            return relief(self._limit, self._held(), more + self._step).fits
        if mx.get_cache_memory() > found.reusable:
            platform.release()
        return found.fits

    def holds_alone(self, more: float) -> bool:
        """Whether `more` bytes could be taken if nothing ran and nothing were kept."""
        return self.limit_bytes is None or self._base + more + self._step <= self._limit

    @contextmanager
    def step(self) -> Iterator[None]:
        """See what a step takes that it does not keep."""
        if self.limit_bytes is None:
            yield
            return
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        yield
        self._step = max(FADES * self._step, mx.get_peak_memory() - max(before, mx.get_active_memory()))

    @property
    def _limit(self) -> int:
        return max(self.limit_bytes or 0, self._base + self._usual)

    def _held(self) -> Held:
        found = platform.memory()
        resident = int(self._process.memory_info().rss) if found.unified else 0
        whole = max(resident, found.active + found.cache)
        return Held(whole, found.cache, 0 if self._kept is None else self._kept.nbytes)
