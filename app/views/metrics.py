"""Prometheus metrics: read from the queue's statistics when they are scraped, kept nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.process_memory import PURPOSES
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.services import services
from mlx_server.queue.placement import Placement
from mlx_server.queue.statistics import Histogram
from mlx_server.workers.parent import canary
from mlx_server.workers.parent.supervisor import WorkerState

OUTCOMES = ("served", "failed", "invalid", "timed_out", "cancelled", "refused")


Read = Callable[[Deployment], float]

GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("queue_depth", "Requests that wait.", lambda one: one.queue.waiting),
    ("queue_capacity", "Requests that may wait.", lambda one: one.queue.queue_size),
    ("requests_active", "Requests that run.", lambda one: one.queue.running),
    ("rows_used", "Rows of the batch in use.", lambda one: one.queue.rows_used),
    ("rows_granted", "Rows that the workers grant.", lambda one: one.queue.credits),
)
COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("requests_replayed", "Requests started over after a worker was lost.", "replayed"),
    ("prompt_tokens", "Tokens of served prompts.", "prompt_tokens"),
    ("cached_prompt_tokens", "Of these, tokens from a cache.", "cached_tokens"),
    ("cached_prompts", "Prompts that began from a cache.", "cached_prompts"),
    ("generated_tokens", "Tokens generated.", "completion_tokens"),
    ("draft_tokens", "Tokens proposed, by a draft model or from what was said before.", "drafted_tokens"),
    ("accepted_draft_tokens", "Of these, tokens that were right: each saved a step.", "accepted_tokens"),
    ("media_encoded", "Pictures and sounds that the model looked at.", "encoded_media"),
    ("media_cached", "Pictures and sounds whose features were known.", "cached_media"),
    ("embeddings", "Vectors computed.", "vectors"),
    ("scores", "Pairs of texts scored.", "scores"),
    ("recording_seconds", "Seconds of recordings that were written down.", "recording_s"),
    ("pictures", "Pictures drawn.", "pictures"),
)
HISTOGRAMS: tuple[tuple[str, str, str], ...] = (
    ("queue_seconds", "Time until a request got a row.", "queue_s"),
    ("time_to_first_token_seconds", "Time until the first text.", "first_token_s"),
    ("inter_token_latency_seconds", "Time between tokens.", "inter_token_s"),
    ("request_seconds", "Time until a request ended.", "request_s"),
)
"""Families: their names, what they are, and where they stand."""


class FleetCollector(Collector):
    """All models' metrics. Labels come from closed sets: names of models that are served, outcomes, states."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def describe(self) -> list[Metric]:
        """Nothing is collected to register."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, read now."""
        deployments = self._fleet.deployments
        for name, text, read in GAUGES:
            yield gauge(name, text, {one.name: read(one) for one in deployments})
        outcomes = {one.name: {end: getattr(one.queue.statistics, end) for end in OUTCOMES} for one in deployments}
        yield counter_by("requests", "Requests by outcome.", "outcome", OUTCOMES, outcomes)
        for name, text, field in COUNTERS:
            yield counter(name, text, {one.name: getattr(one.queue.statistics, field) for one in deployments})
        placements = {
            one.name: {word.value: count for word, count in one.queue.statistics.placements.items()}
            for one in deployments
        }
        text = "Requests that had several workers to go to, by what these knew of their prompts."
        yield counter_by("placements", text, "placement", list(Placement), placements)
        for name, text, field in HISTOGRAMS:
            yield histogram(name, text, {one.name: getattr(one.queue.statistics, field) for one in deployments})
        states = {one.name: one.worker_states for one in deployments}
        yield gauge_by("worker_state", "Workers in each state.", "state", [one.value for one in WorkerState], states)
        restarts = {one.name: float(one.restarts) for one in deployments}
        yield counter("worker_restarts", "Times a worker was started again.", restarts)
        canaries = {one.name: one.canaries for one in deployments}
        text = "Tokens that idle workers were asked for, by outcome."
        yield counter_by("canaries", text, "outcome", canary.OUTCOMES, canaries)
        memory = {one.name: one.memory_by_purpose() for one in deployments}
        yield gauge_by("worker_memory_bytes", "What workers' memory is for.", "purpose", PURPOSES, memory)
        bounds = {one.name: float(one.memory_bound) for one in deployments if one.memory_bound is not None}
        yield gauge("worker_memory_bound_bytes", "What each worker may hold, where it is bounded.", bounds)
        yield GaugeMetricFamily(
            "mlx_server_standby_memory_bytes",
            "What the standby worker, which has no model yet, occupies; 0 without one.",
            self._fleet.standby.memory_bytes,
        )


def gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    """A family with a value for each model."""
    family = GaugeMetricFamily(f"mlx_server_{name}", text, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def counter(name: str, text: str, values: Mapping[str, float]) -> Metric:
    """A family with a value for each model."""
    family = CounterMetricFamily(f"mlx_server_{name}", text, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def gauge_by(
    name: str, text: str, label: str, among: Iterable[str], values: Mapping[str, Mapping[str, float]]
) -> Metric:
    """A family with a value for each model and for each word that its second label may be."""
    return by_label(GaugeMetricFamily(f"mlx_server_{name}", text, labels=["model", label]), among, values)


def counter_by(
    name: str, text: str, label: str, among: Iterable[str], values: Mapping[str, Mapping[str, float]]
) -> Metric:
    """A family with a value for each model and for each word that its second label may be."""
    return by_label(CounterMetricFamily(f"mlx_server_{name}", text, labels=["model", label]), among, values)


def by_label(
    family: GaugeMetricFamily | CounterMetricFamily, among: Iterable[str], values: Mapping[str, Mapping[str, float]]
) -> Metric:
    """The family with its values; 0 for a word without one."""
    words = list(among)
    for model, own in values.items():
        for word in words:
            family.add_metric([model, word], own.get(word, 0))
    return family


def histogram(name: str, text: str, histograms: Mapping[str, Histogram]) -> Metric:
    """A family with a histogram for each model."""
    family = HistogramMetricFamily(f"mlx_server_{name}", text, labels=["model"])
    for model, one in histograms.items():
        buckets, total = [], 0
        for bound, count in zip((*map(str, one.bounds), "+Inf"), one.buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric([model], buckets, one.sum)
    return family


def make_registry(fleet: Fleet) -> CollectorRegistry:
    """A registry for one app."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(fleet))
    return registry


async def metrics(request: Request) -> Response:
    """`GET /metrics`: OpenMetrics for scrapers that ask for it, else Prometheus' own format."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(services(request).metrics), headers={"Content-Type": media_type, "Vary": "Accept"})
