"""The account of memory by model, and which models are evicted for another. Pure decisions: no clock, no process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model. `last_used` are seconds on any clock, `idle`: no request of it lives but idle ones."""

    name: str
    last_used: float
    idle: bool
    pinned: bool


@dataclass(frozen=True)
class Fits:
    """There is enough memory."""


@dataclass(frozen=True)
class Evict:
    """There will be memory once these have been unloaded, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """There may be memory once others have become idle, or have ended loading."""


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

    def grant(self, name: str, required_bytes: int) -> None:
        """Note that a model is being loaded."""
        self._grants[name] = required_bytes

    def measured(self, name: str, used_bytes: int) -> None:
        """Note a loaded model's measured memory, if that is more."""
        if name in self._grants:
            self._grants[name] = max(self._grants[name], used_bytes)

    def bounds(self) -> Mapping[str, int]:
        """The most that each model may hold, in bytes: its grant, and an equal share of what nobody was granted. If
        more is held than there is, all get less. Empty without a limit."""
        if self.limit_bytes is None:
            return {}
        held = sum(self._grants.values())
        if held > self.limit_bytes:
            return {name: grant * self.limit_bytes // held for name, grant in self._grants.items()}
        left = self.limit_bytes - held
        return {name: grant + left // len(self._grants) for name, grant in self._grants.items()}

    def release(self, name: str) -> None:
        """Free a model's memory. Idempotent."""
        self._grants.pop(name, None)

    def has_room(self, more_bytes: int) -> bool:
        """Whether so much is left beside what is granted."""
        return self._has_memory(self._grants, more_bytes)

    def plan(self, name: str, required_bytes: int, models: Sequence[LoadedModel], *, impatient: bool = False) -> Plan:
        """The decision on a load.

        Idle ones go, the least recently used first, and none that needn't. `impatient`: busy ones may go too, after
        all idle ones; whoever unloads them lets their requests end. What `name` itself holds doesn't count.
        """
        others = {other: held for other, held in self._grants.items() if other != name}
        pinned = [others[model.name] for model in models if model.pinned and model.name in others]
        if self.limit_bytes is not None and sum(pinned) + required_bytes > self.limit_bytes:
            return Never(max(0, self.limit_bytes - sum(pinned)), required_bytes)
        if self.max_models is not None and len(pinned) >= self.max_models:
            return Full(self.max_models)
        if self._fits(others, required_bytes):
            return Fits()
        leaving: list[LoadedModel] = []
        for model in self._candidates(others, models, impatient=impatient):
            leaving.append(model)
            if self._fits(without(others, leaving), required_bytes):
                return Evict(tuple(one.name for one in self._needed(leaving, others, required_bytes)))
        return Wait()

    def has_spare(self, name: str, required_bytes: int, models: Sequence[LoadedModel], unused_since: float) -> bool:
        """Whether a load that can wait may be done now: none goes for it that is pinned or was used since then.

        One that will never fit may: it is refused, and says why.
        """
        spare = [
            replace(model, pinned=False, idle=model.idle and not model.pinned and model.last_used < unused_since)
            for model in models
        ]
        return not isinstance(self.plan(name, required_bytes, spare), Wait)

    def surplus(self, models: Sequence[LoadedModel]) -> tuple[str, ...]:
        """Idle models to unload since more has been measured than there is; never the one that was used last."""
        last = max(models, key=lambda model: model.last_used, default=None)
        candidates = self._candidates(self._grants, [model for model in models if model is not last])
        leaving: list[LoadedModel] = []
        for model in candidates:
            if self._has_memory(without(self._grants, leaving), 0):
                break
            leaving.append(model)
        return tuple(model.name for model in leaving)

    def _candidates(
        self, grants: Mapping[str, int], models: Sequence[LoadedModel], *, impatient: bool = False
    ) -> list[LoadedModel]:
        """Models that may be evicted, in their order."""
        able = [one for one in models if one.name in grants and not one.pinned and (one.idle or impatient)]
        return sorted(able, key=lambda model: (not model.idle, model.last_used))

    def _needed(
        self, leaving: Sequence[LoadedModel], others: Mapping[str, int], required_bytes: int
    ) -> list[LoadedModel]:
        """Those of `leaving` without whom it would not fit; the busy and the recently used are spared first."""
        needed = list(leaving)
        for model in reversed(leaving):
            fewer = [one for one in needed if one is not model]
            if self._fits(without(others, fewer), required_bytes):
                needed = fewer
        return needed

    def _fits(self, others: Mapping[str, int], required_bytes: int) -> bool:
        """Whether a model with this need goes beside the others."""
        return self._has_memory(others, required_bytes) and (self.max_models is None or len(others) < self.max_models)

    def _has_memory(self, others: Mapping[str, int], required_bytes: int) -> bool:
        return self.limit_bytes is None or sum(others.values()) + required_bytes <= self.limit_bytes


def without(grants: Mapping[str, int], leaving: Sequence[LoadedModel]) -> dict[str, int]:
    """What is still held when those have left."""
    gone = {model.name for model in leaving}
    return {name: held for name, held in grants.items() if name not in gone}
