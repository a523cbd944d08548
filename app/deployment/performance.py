"""How much of the machine models take: three modes, and what each does to a model's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from mlx_server.app.config.settings import ModelSettings

LEAST_CHUNK = 16


class Mode(StrEnum):
    """The modes that a client may set."""

    EFFICIENCY = "efficiency"
    BALANCED = "balanced"
    PERFORMANCE = "performance"


@dataclass(frozen=True)
class Profile:
    """Shares of what is configured: of the rows of a batch, the tokens of a prefill chunk, the bytes of the caches for
    prompts and pictures, and of the processor cores that a worker computes on.
    """

    rows: float
    chunk: float
    caches: float
    threads: float


PROFILES = MappingProxyType(
    {
        Mode.EFFICIENCY: Profile(rows=0.5, chunk=0.5, caches=0.5, threads=0.5),
        Mode.BALANCED: Profile(rows=1, chunk=1, caches=1, threads=1),
        Mode.PERFORMANCE: Profile(rows=1, chunk=2, caches=2, threads=1),
    }
)
"""`balanced` is what is configured. Memory was granted for the configured rows, so no mode takes more of them."""


class Tuning:
    """The mode that models are served in, shared by all of them."""

    def __init__(self) -> None:
        self.mode = Mode.BALANCED

    @property
    def profile(self) -> Profile:
        """The mode's shares of what is configured."""
        return PROFILES[self.mode]

    def rows(self, granted: int) -> int:
        """How many of the rows that a worker grants are used. Takes effect at once."""
        return max(1, int(granted * self.profile.rows))

    def threads(self, cores: int) -> int:
        """On how many cores a worker computes. Takes effect when it is started."""
        return max(1, int(cores * self.profile.threads))

    def tuned(self, settings: ModelSettings) -> ModelSettings:
        """A model's settings in this mode. They take effect when it is loaded."""
        cache_bytes = settings.prefix_cache_bytes
        return replace(
            settings,
            prefill_step_size=max(LEAST_CHUNK, int(settings.prefill_step_size * self.profile.chunk)),
            feature_cache_bytes=int(settings.feature_cache_bytes * self.profile.caches),
            prefix_cache_bytes=None if cache_bytes is None else int(cache_bytes * self.profile.caches),
        )
