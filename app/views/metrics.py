"""Prometheus metrics: read from the queue's statistics when they are scraped, kept nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
        requests = CounterMetricFamily("mlx_server_requests", "Requests by outcome.", labels=["model", "outcome"])
        for one in deployments:
            for outcome in OUTCOMES:
                requests.add_metric([one.name, outcome], getattr(one.queue.statistics, outcome))
        yield requests
        for name, text, field in COUNTERS:
            yield counter(name, text, {one.name: getattr(one.queue.statistics, field) for one in deployments})
        for name, text, field in HISTOGRAMS:
            yield histogram(name, text, {one.name: getattr(one.queue.statistics, field) for one in deployments})
        states = GaugeMetricFamily("mlx_server_worker_state", "Workers in each state.", labels=["model", "state"])
        for one in deployments:
            workers = one.worker_states
            for state in WorkerState:
                states.add_metric([one.name, state.value], workers.get(state.value, 0))
        yield states
        restarts = {one.name: float(one.restarts) for one in deployments}
        yield counter("worker_restarts", "Times a worker was started again.", restarts)
        canaries = CounterMetricFamily(
            "mlx_server_canaries", "Tokens that idle workers were asked for, by outcome.", labels=["model", "outcome"]
        )
        for one in deployments:
            ended = one.canaries
            for outcome in canary.OUTCOMES:
                canaries.add_metric([one.name, outcome], ended[outcome])
        yield canaries
        memory = GaugeMetricFamily(
            "mlx_server_worker_memory_bytes", "What workers' memory is for.", labels=["model", "purpose"]
        )
        for one in deployments:
            used = one.memory_by_purpose()
            for purpose in PURPOSES:
                memory.add_metric([one.name, purpose], used[purpose])
        yield memory
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
