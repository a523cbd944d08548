"""What is different in a configuration that was read again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlx_server.app.config.settings import ModelSettings


@dataclass(frozen=True)
class ReloadReport:
    """Models by what became of them, by name; with an `error` the old configuration, or what it names, was kept."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    error: str | None = None

    def summary(self) -> str:
        """In a line for the log."""
        became = {"added": self.added, "removed": self.removed, "changed": self.changed, "unchanged": self.unchanged}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in became.items() if names) or "no models"

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
