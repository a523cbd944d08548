"""`/v1/queue/stats`: the reference's object, and more beside it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving

REFERENCE = {"running": bool, "queue_size": int, "max_queue_size": int, "active_requests": int, "max_concurrency": int}
COUNTS = ("served", "refused", "timed_out", "cancelled", "failed", "invalid", "replayed")
DRAFTS = ("draft_tokens", "accepted_draft_tokens")
BESIDE = {
    **dict.fromkeys((*COUNTS, *DRAFTS, "running_requests", "waiting_requests", "rows_used", "rows_granted"), int),
    "oldest_wait_s": float,
    "mean_wait_s": float,
    "max_wait_s": float,
    "mean_time_to_first_token_s": float,
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 3, "--queue-timeout", 20) as server:
        yield server


def test_stats_have_the_references_shape_and_move(server: Server) -> None:
    body = server.get("/v1/queue/stats").json()
    assert body.keys() == {"status", "queue_stats", "models"}
    assert body["status"] == "ok"
    assert body["models"] == {"scripted": body["queue_stats"]}
    idle = body["queue_stats"]
    assert {name: idle[name] for name in REFERENCE} == {
        "running": True,
        "queue_size": 0,
        "max_queue_size": 3,
        "active_requests": 0,
        "max_concurrency": 2,
    }
    assert {name: idle[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)
    with ThreadPoolExecutor(3) as pool:
        long = [RawClient(server, chat_body({"first_token_s": 60})) for _ in range(2)]
        server.wait_stats(running_requests=2)
        waiting = [pool.submit(server.chat, "hi") for _ in range(3)]
        # The reference's own example: three wait, two run, five are active.
        server.wait_stats(queue_size=3, waiting_requests=3, running_requests=2, active_requests=5, rows_used=2)
        server.wait_until(lambda: server.stats()["oldest_wait_s"] > 0.2)
        assert server.chat("hi").status_code == 429
        for client in long:
            client.leave()
        assert [answer.result().status_code for answer in waiting] == [200] * 3
    assert server.chat({"raise_at": 1}).status_code == 500
    assert server.chat({"invalid": True}).status_code == 400
    stats = server.stats()
    for name, kind in {**REFERENCE, **BESIDE}.items():
        assert type(stats[name]) is kind, name
    assert {name: stats[name] for name in COUNTS} == {
        "served": 3,
        "refused": 1,
        "timed_out": 0,
        "cancelled": 2,
        "failed": 1,
        "invalid": 1,
        "replayed": 0,
    }
    assert (stats["active_requests"], stats["queue_size"], stats["rows_used"], stats["rows_granted"]) == (0, 0, 0, 2)
    assert stats["oldest_wait_s"] == 0
    assert 0.2 < stats["max_wait_s"] < 20
    assert stats["mean_wait_s"] <= stats["max_wait_s"]
