"""What is different in a configuration that was read again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from mlx_server.app.config.settings import ModelSettings, Settings

AT_THE_START = ("cluster", "cors_origins", "rate_limit", "otlp_endpoint")
"""Fields of the settings that a server goes by as they were when it started."""


@dataclass(frozen=True)
class ReloadReport:
    """Models by what became of them, by name. `error` says in a sentence or two what was kept as it was, and why."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    next_start: tuple[str, ...] = ()
    """Fields of the settings that are different, and not in force before the server is started again."""
    error: str | None = None

    def summary(self) -> str:
        """In a line for the log."""
        became = {"added": self.added, "removed": self.removed, "changed": self.changed, "unchanged": self.unchanged}
        models = "; ".join(f"{what} {', '.join(names)}" for what, names in became.items() if names) or "no models"
        later = f"; not before the next start: {', '.join(self.next_start)}" if self.next_start else ""
        return models + later

    def failed(self, error: str) -> ReloadReport:
        """The same, with what went wrong."""
        return replace(self, error=error)


def compare(before: Iterable[ModelSettings], after: Iterable[ModelSettings]) -> ReloadReport:
    """The models of two configurations."""
    old = {model.public_name: model for model in before}
    new = {model.public_name: model for model in after}
    return ReloadReport(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and new[name] != old[name]),
        tuple(name for name in new if name in old and new[name] == old[name]),
    )


def as_started(running: Settings, read: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Settings that were read again as far as a running server can go by them, and the fields that have to wait."""
    kept: dict[str, Any] = {name: getattr(running, name) for name in AT_THE_START}
    waiting = tuple(name for name, value in kept.items() if getattr(read, name) != value)
    return replace(read, **kept), waiting
