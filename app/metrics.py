"""Prometheus metrics: read from the queue's statistics when they are scraped, kept nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment import Deployment
from mlx_server.queue.statistics import Histogram
from mlx_server.workers.supervisor import WorkerState

OUTCOMES = ("served", "failed", "invalid", "timed_out", "cancelled", "refused")


class DeploymentCollector(Collector):
    """One deployment's metrics. Labels come from closed sets: the model's configured name, outcomes, states."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def describe(self) -> list[Metric]:
        """Nothing is collected to register."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, read now."""
        queue, statistics = self._deployment.queue, self._deployment.queue.statistics
        yield self._gauge("queue_depth", "Requests that wait.", queue.waiting)
        yield self._gauge("queue_capacity", "Requests that may wait.", queue.queue_size)
        yield self._gauge("requests_active", "Requests that run.", queue.running)
        yield self._gauge("rows_used", "Rows of the batch in use.", queue.rows_used)
        yield self._gauge("rows_granted", "Rows that the worker grants.", queue.credits)
        yield self._labelled(
            "requests", "Requests by outcome.", "outcome", {o: getattr(statistics, o) for o in OUTCOMES}
        )
        yield self._counter("requests_replayed", "Requests started over after a worker was lost.", statistics.replayed)
        yield self._counter("prompt_tokens", "Tokens of served prompts.", statistics.prompt_tokens)
        yield self._counter("cached_prompt_tokens", "Of these, tokens from a cache.", statistics.cached_tokens)
        yield self._counter("cached_prompts", "Prompts that began from a cache.", statistics.cached_prompts)
        yield self._counter("generated_tokens", "Tokens generated.", statistics.completion_tokens)
        yield self._counter("draft_tokens", "Tokens proposed by a draft model.", statistics.drafted_tokens)
        yield self._counter("accepted_draft_tokens", "Of these, tokens that were right.", statistics.accepted_tokens)
        yield self._counter("media_encoded", "Pictures and sounds that the model looked at.", statistics.encoded_media)
        yield self._counter("media_cached", "Pictures and sounds whose features were known.", statistics.cached_media)
        yield self._counter("embeddings", "Vectors computed.", statistics.vectors)
        yield self._counter("scores", "Pairs of texts scored.", statistics.scores)
        yield self._histogram("queue_seconds", "Time until a request got a row.", statistics.queue_s)
        yield self._histogram("time_to_first_token_seconds", "Time until the first text.", statistics.first_token_s)
        yield self._histogram("inter_token_latency_seconds", "Time between tokens.", statistics.inter_token_s)
        yield self._histogram("request_seconds", "Time until a request ended.", statistics.request_s)
        state = self._deployment.worker.state
        family = GaugeMetricFamily("mlx_server_worker_state", "1 for the worker's state.", labels=["model", "state"])
        for candidate in WorkerState:
            family.add_metric([self._deployment.name, candidate.value], float(candidate is state))
        yield family
        yield self._counter("worker_restarts", "Times the worker was started again.", self._deployment.worker.restarts)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"mlx_server_{name}", text, labels=["model"])
        family.add_metric([self._deployment.name], value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"mlx_server_{name}", text, labels=["model"])
        family.add_metric([self._deployment.name], value)
        return family

    def _labelled(self, name: str, text: str, label: str, values: dict[str, int]) -> Metric:
        family = CounterMetricFamily(f"mlx_server_{name}", text, labels=["model", label])
        for key, value in values.items():
            family.add_metric([self._deployment.name, key], value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"mlx_server_{name}", text, labels=["model"])
        buckets, total = [], 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric([self._deployment.name], buckets, histogram.sum)
        return family


def make_registry(deployment: Deployment) -> CollectorRegistry:
    """A registry for one app."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DeploymentCollector(deployment))
    return registry


async def metrics(request: Request) -> Response:
    """`GET /metrics`."""
    return Response(generate_latest(request.app.state.metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})
