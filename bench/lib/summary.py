"""From raw rows to the figures of a load run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Row:
    """One request. Times are seconds; `start_s` counts from the start of the run."""

    index: int
    outcome: str
    status: int | None
    start_s: float
    end_s: float
    ttft_s: float | None
    gaps_s: list[float]
    tokens: int
    usage_tokens: int | None
    cached_tokens: int
    content_events: int
    events: int
    retry_after: str | None

    @property
    def e2e_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Summary:
    """Latencies are of the requests that ended well, in milliseconds; so are tokens and rates.

    `wall_s` runs from the first request's start to the last one's end.
    """

    requests: int
    outcomes: dict[str, int]
    wall_s: float
    tokens: int
    content_events: int
    tokens_per_s: float
    requests_per_s: float
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    e2e_ms: dict[str, float]
    client_cpu_s: float
    retry_after: dict[str, int] = field(default_factory=dict)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which `percent` % of `ordered` (ascending, not empty) lie, interpolated linearly."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def percentiles_ms(values_s: Sequence[float]) -> dict[str, float]:
    """p50, p90, p95 and p99 of `values_s` in milliseconds; empty when there are no values."""
    if not values_s:
        return {}
    ordered = sorted(values_s)
    return {f"p{p}": round(percentile(ordered, p) * 1000, 3) for p in PERCENTILES}


def summarise(rows: Sequence[Row], client_cpu_s: float) -> Summary:
    served = [row for row in rows if row.outcome == "ok"]
    wall_s = max((row.end_s for row in rows), default=0.0) - min((row.start_s for row in rows), default=0.0)
    tokens = sum(row.tokens for row in served)
    return Summary(
        requests=len(rows),
        outcomes=dict(Counter(row.outcome for row in rows)),
        wall_s=round(wall_s, 6),
        tokens=tokens,
        content_events=sum(row.content_events for row in served),
        tokens_per_s=round(tokens / wall_s, 3) if wall_s else 0.0,
        requests_per_s=round(len(served) / wall_s, 3) if wall_s else 0.0,
        ttft_ms=percentiles_ms([row.ttft_s for row in served if row.ttft_s is not None]),
        itl_ms=percentiles_ms([gap for row in served for gap in row.gaps_s]),
        e2e_ms=percentiles_ms([row.e2e_s for row in served]),
        client_cpu_s=round(client_cpu_s, 3),
        retry_after=dict(Counter(row.retry_after for row in rows if row.retry_after is not None)),
    )
