"""What the queue counts. Readers (the stats endpoint, Prometheus) take it as it is."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import repeat
from typing import Generic, TypeVar, assert_never

from mlx_server.queue.placement import Placement
from mlx_server.queue.ticket import TicketState

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)

RECENT = 2048
"""Values that are kept one by one, of each kind, at most."""

RECENT_S = 300.0
"""How long they are kept."""

T = TypeVar("T")


class Recent(Generic[T]):
    """The values of the last RECENT_S seconds, RECENT at most; times are seconds on the queue's clock."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, T]] = deque(maxlen=RECENT)

    def observe(self, now: float, value: T, times: int = 1) -> None:
        """Keep one value, `times` times."""
        self._forget(now)
        self._values.extend(repeat((now, value), times))

    def at(self, now: float) -> list[T]:
        """Those that are recent then, the oldest first."""
        self._forget(now)
        return [value for _, value in self._values]

    def _forget(self, now: float) -> None:
        while self._values and self._values[0][0] <= now - RECENT_S:
            self._values.popleft()


class Histogram:
    """Counts by upper bound, in seconds, as Prometheus has them (the last bucket is unbounded)."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.max = 0.0

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.buckets)

    @property
    def mean(self) -> float | None:
        """The mean in seconds, None before the first value."""
        return self.sum / self.count if self.count else None

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count one value, `times` times."""
        self.buckets[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times
        self.max = max(self.max, seconds)


@dataclass
class Statistics:
    """Counters since the start, and the running mean that the admission's promises rest on."""

    served: int = 0
    failed: int = 0
    invalid: int = 0
    timed_out: int = 0
    cancelled: int = 0
    refused: int = 0
    replayed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cached_prompts: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    encoded_media: int = 0
    cached_media: int = 0
    vectors: int = 0
    scores: int = 0
    recording_s: float = 0.0
    pictures: int = 0
    mean_service_s: float | None = None
    prefill_s: float | None = None
    """How long a character of a prompt took to be read, an exponential mean."""
    placements: Counter[Placement] = field(default_factory=Counter)
    """Requests that had several replicas to go to, by what was known of their prompts."""
    queue_s: Histogram = field(default_factory=Histogram)
    first_token_s: Histogram = field(default_factory=Histogram)
    inter_token_s: Histogram = field(default_factory=lambda: Histogram(GAP_SECONDS))
    request_s: Histogram = field(default_factory=Histogram)
    recent_first_tokens_s: Recent[float] = field(default_factory=Recent)
    recent_gaps_s: Recent[float] = field(default_factory=Recent)
    recent_prompts: Recent[tuple[int, int]] = field(default_factory=Recent)
    """Tokens of each prompt that were known, and all of its tokens."""

    def ended(self, state: TicketState) -> None:
        """Count one request by how it ended; one that lives counts as nothing."""
        match state:
            case TicketState.SERVED:
                self.served += 1
            case TicketState.FAILED:
                self.failed += 1
            case TicketState.INVALID:
                self.invalid += 1
            case TicketState.TIMED_OUT:
                self.timed_out += 1
            case TicketState.CANCELLED:
                self.cancelled += 1
            case TicketState.WAITING | TicketState.RUNNING | TicketState.PARKED:
                pass
            case _:
                assert_never(state)

    def record_service(self, seconds: float) -> None:
        """Fold one request's running time into its mean."""
        self.mean_service_s = folded(self.mean_service_s, seconds)

    def record_prefill(self, seconds: float, characters: float) -> None:
        """Fold the time that so many characters took to be read into its mean."""
        self.prefill_s = folded(self.prefill_s, seconds / characters)


def folded(mean: float | None, value: float) -> float:
    """An exponential mean with one more value, which weighs 0.2."""
    return value if mean is None else mean + 0.2 * (value - mean)
