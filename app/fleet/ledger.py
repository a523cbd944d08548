"""Who holds how much memory, and who goes when another needs it. Pure decisions: no clock, no process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """A loaded model. `last_used` are seconds on any clock, `idle`: no request of it lives."""

    name: str
    last_used: float
    idle: bool
    pinned: bool


@dataclass(frozen=True)
class Fits:
    """There is room."""


@dataclass(frozen=True)
class Evict:
    """There will be room once these are unloaded."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """There may be room once others have become idle."""


@dataclass(frozen=True)
class Never:
    """There will not be room whoever goes; both are bytes."""

    available: int
    required: int


Plan = Fits | Evict | Wait | Never


class Ledger:
    """Grants by name, of at most `limit_bytes` together and to at most `max_models`; None is no limit."""

    def __init__(self, limit_bytes: int | None, max_models: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.max_models = max_models
        self._grants: dict[str, int] = {}

    @property
    def granted(self) -> dict[str, int]:
        """Bytes by name."""
        return dict(self._grants)

    def grant(self, name: str, need_bytes: int) -> None:
        """Note that a model is being loaded."""
        self._grants[name] = need_bytes

    def measured(self, name: str, used_bytes: int) -> None:
        """Note what a loaded model really holds, if that is more."""
        if name in self._grants:
            self._grants[name] = max(self._grants[name], used_bytes)

    def release(self, name: str) -> None:
        """It holds nothing any more. Idempotent."""
        self._grants.pop(name, None)

    def plan(self, name: str, need_bytes: int, holders: Sequence[Holder], *, impatient: bool = False) -> Plan:
        """What has to happen before a model is loaded. `impatient`: busy models may be displaced too."""
        others = {other: held for other, held in self._grants.items() if other != name}
        pinned = {holder.name for holder in holders if holder.pinned}
        kept = sum(held for other, held in others.items() if other in pinned)
        if self.limit_bytes is not None and kept + need_bytes > self.limit_bytes:
            return Never(self.limit_bytes - kept, need_bytes)
        if self._fits(others, need_bytes):
            return Fits()
        leaving: list[str] = []
        candidates = [holder for holder in holders if not holder.pinned and (holder.idle or impatient)]
        for holder in sorted(candidates, key=lambda holder: (not holder.idle, holder.last_used)):
            if others.pop(holder.name, None) is not None:
                leaving.append(holder.name)
                if self._fits(others, need_bytes):
                    return Evict(tuple(leaving))
        return Wait()

    def _fits(self, others: dict[str, int], need_bytes: int) -> bool:
        few = self.max_models is None or len(others) < self.max_models
        return few and (self.limit_bytes is None or sum(others.values()) + need_bytes <= self.limit_bytes)
