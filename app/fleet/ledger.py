"""Who holds how much memory, and who goes when another needs it. Pure decisions: no clock, no process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """There will be room once these have been unloaded, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """There may be room once others have become idle, or have ended loading."""


@dataclass(frozen=True)
class Never:
    """There will not be memory whoever goes: `available` bytes are not held by pinned models."""

    available: int
    required: int


@dataclass(frozen=True)
class Full:
    """There will not be a place whoever goes: pinned models have all of `max_models`."""

    max_models: int


Plan = Fits | Evict | Wait | Never | Full


class Ledger:
    """Grants by name, of at most `limit_bytes` together and to at most `max_models`; None is no limit.

    A grant is an estimate until more has been measured. It stands until the model's processes have ended: only then
    `release` it.
    """

    def __init__(self, limit_bytes: int | None, max_models: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.max_models = max_models
        self._grants: dict[str, int] = {}

    @property
    def granted(self) -> Mapping[str, int]:
        """Bytes by name."""
        return dict(self._grants)

    @property
    def granted_bytes(self) -> int:
        """All grants together."""
        return sum(self._grants.values())

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
        """What has to happen before a model is loaded.

        Idle ones go, the least recently used first, and none that needn't. `impatient`: busy ones may go too, after
        all idle ones; whoever unloads them lets their requests end. What `name` itself holds doesn't count.
        """
        others = {other: held for other, held in self._grants.items() if other != name}
        kept = [others[holder.name] for holder in holders if holder.pinned and holder.name in others]
        if self.limit_bytes is not None and sum(kept) + need_bytes > self.limit_bytes:
            return Never(max(0, self.limit_bytes - sum(kept)), need_bytes)
        if self.max_models is not None and len(kept) >= self.max_models:
            return Full(self.max_models)
        if self._has_room(others, need_bytes):
            return Fits()
        leaving: list[Holder] = []
        for holder in self._candidates(others, holders, impatient=impatient):
            leaving.append(holder)
            if self._has_room(without(others, leaving), need_bytes):
                return Evict(tuple(one.name for one in self._needed(leaving, others, need_bytes)))
        return Wait()

    def surplus(self, holders: Sequence[Holder]) -> tuple[str, ...]:
        """Idle models to unload since more has been measured than there is; never the one that was used last."""
        last = max(holders, key=lambda holder: holder.last_used, default=None)
        candidates = self._candidates(self._grants, [holder for holder in holders if holder is not last])
        leaving: list[Holder] = []
        for holder in candidates:
            if self._has_memory(without(self._grants, leaving), 0):
                break
            leaving.append(holder)
        return tuple(holder.name for holder in leaving)

    def _candidates(
        self, grants: Mapping[str, int], holders: Sequence[Holder], *, impatient: bool = False
    ) -> list[Holder]:
        """Who may go, in the order of going."""
        able = [one for one in holders if one.name in grants and not one.pinned and (one.idle or impatient)]
        return sorted(able, key=lambda holder: (not holder.idle, holder.last_used))

    def _needed(self, leaving: Sequence[Holder], others: Mapping[str, int], need_bytes: int) -> list[Holder]:
        """Those of `leaving` without whom there would be no room; the busy and the recently used are spared first."""
        needed = list(leaving)
        for holder in reversed(leaving):
            fewer = [one for one in needed if one is not holder]
            if self._has_room(without(others, fewer), need_bytes):
                needed = fewer
        return needed

    def _has_room(self, others: Mapping[str, int], need_bytes: int) -> bool:
        """Whether a model with this need goes beside the others."""
        return self._has_memory(others, need_bytes) and (self.max_models is None or len(others) < self.max_models)

    def _has_memory(self, others: Mapping[str, int], need_bytes: int) -> bool:
        return self.limit_bytes is None or sum(others.values()) + need_bytes <= self.limit_bytes


def without(grants: Mapping[str, int], leaving: Sequence[Holder]) -> dict[str, int]:
    """What is still held when those have left."""
    gone = {holder.name for holder in leaving}
    return {name: held for name, held in grants.items() if name not in gone}
