"""`/metrics`: what Prometheus reads, of which each value moves and each label comes from a closed set."""

from collections.abc import Callable, Iterator

import pytest
from support.running.metrics import PREFIX, families, value
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving

from mlx_server.app.deployment.process_memory import PURPOSES
from mlx_server.queue.placement import Placement

NAME = 'a "model"\\ with\nodd name'
GAUGES = {
    "queue_depth",
    "queue_capacity",
    "requests_active",
    "rows_used",
    "rows_granted",
    "worker_state",
    "standby_memory_bytes",
    "worker_memory_bound_bytes",
    "worker_memory_bytes",
}
COUNTERS = {
    "requests",
    "requests_replayed",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cached_prompts",
    "generated_tokens",
    "draft_tokens",
    "accepted_draft_tokens",
    "media_encoded",
    "media_cached",
    "embeddings",
    "scores",
    "worker_restarts",
    "canaries",
    "recording_seconds",
    "pictures",
    "placements",
}
HISTOGRAMS = {"queue_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds", "request_seconds"}
OUTCOMES = {"served", "failed", "invalid", "timed_out", "cancelled", "refused"}
STATES = {"starting", "loading", "ready", "restarting", "failed", "stopped"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *SCRIPTED, "--max-concurrency", 1, "--queue-size", 1, "--queue-timeout", 3, "--model-name", NAME
    ) as server:
        yield server


def test_families_have_names_types_and_help(server: Server) -> None:
    assert server.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    found = families(server)
    kinds = {name: family.type for name, family in found.items()}
    expected = dict.fromkeys(GAUGES, "gauge") | dict.fromkeys(COUNTERS, "counter")
    assert kinds == expected | dict.fromkeys(HISTOGRAMS, "histogram")
    assert all(family.documentation for family in found.values())


def test_labels_are_closed_sets(server: Server) -> None:
    server.chat("hi", model="the client's model", user="the client's name")
    server.get("/the-clients-path")
    allowed = {
        "outcome": OUTCOMES | {"passed", "failed"},
        "state": STATES,
        "model": {NAME},
        "purpose": set(PURPOSES),
        "placement": set(Placement),
    }
    for family in families(server).values():
        for sample in family.samples:
            labels = {key: text for key, text in sample.labels.items() if key != "le"}
            assert labels.keys() <= allowed.keys(), sample
            assert all(text in allowed[key] for key, text in labels.items()), sample


def test_values_move(server: Server) -> None:
    before = {name: value(server, "requests_total", outcome=name) for name in OUTCOMES}
    generated, prompts = value(server, "generated_tokens_total"), value(server, "prompt_tokens_total")
    counts = {name: value(server, f"{name}_count") for name in HISTOGRAMS}
    assert server.chat({"tokens": 5, "interval_s": 0.03}).status_code == 200
    assert value(server, "generated_tokens_total") == generated + 5
    assert value(server, "prompt_tokens_total") == prompts + 1
    gained = {name: value(server, f"{name}_count") - count for name, count in counts.items()}
    assert gained == dict.fromkeys(HISTOGRAMS, 1) | {"inter_token_latency_seconds": 4}
    assert value(server, "inter_token_latency_seconds_sum") >= 0.1
    assert server.chat({"raise_at": 1}).status_code == 500
    assert server.chat({"invalid": True}).status_code == 400
    with RawClient(server, chat_body({"first_token_s": 60})) as first, RawClient(server, chat_body("hi")) as second:
        server.wait_stats(running_requests=1, waiting_requests=1)
        assert (value(server, "queue_depth"), value(server, "requests_active"), value(server, "rows_used")) == (1, 1, 1)
        assert server.chat("hi").status_code == 429
        first.leave()
        assert second.status == 200
    assert server.chat({"first_token_s": 60}, stream=True).status_code == 504
    after = {name: value(server, "requests_total", outcome=name) for name in OUTCOMES}
    gained = {name: after[name] - before[name] for name in OUTCOMES}
    assert gained == {"served": 2, "failed": 1, "invalid": 1, "cancelled": 1, "refused": 1, "timed_out": 1}
    assert (value(server, "queue_depth"), value(server, "requests_active"), value(server, "rows_used")) == (0, 0, 0)
    assert (value(server, "queue_capacity"), value(server, "rows_granted")) == (1, 1)


def test_histograms_are_cumulative(server: Server) -> None:
    server.chat("a b c")
    found = families(server)
    for name in HISTOGRAMS:
        samples = found[name].samples
        buckets = [sample.value for sample in samples if sample.name == f"{PREFIX}{name}_bucket"]
        assert buckets == sorted(buckets)
        assert buckets[-1] == next(sample.value for sample in samples if sample.name.endswith("_count"))


def test_worker_has_one_state(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=2", wait=False)
    server.wait_listening()

    def states() -> dict[str, float]:
        return {sample.labels["state"]: sample.value for sample in families(server)["worker_state"].samples}

    server.wait_until(lambda: states()["loading"] == 1)
    assert states() == dict.fromkeys(STATES, 0) | {"loading": 1}
    server.wait_ready()
    assert states() == dict.fromkeys(STATES, 0) | {"ready": 1}
