"""However requests end, each ends once, and nothing of them stays."""

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body

REQUESTS = 240
REFUSED_WAIT_S = 0.2
"""As a client does that is told to try again: one that doesn't would leave the queue to nobody else."""
SCRIPTS = [
    {"tokens": 3},
    {"tokens": 20, "interval_s": 0.005},
    {"raise_at": 1},
    {"raise_at": 4, "tokens": 9},
    {"invalid": True},
    {"first_token_s": 5},
    {"prepare_s": 0.01, "tokens": 2},
]
OUTCOMES = ("served", "failed", "invalid", "timed_out", "cancelled", "refused")


def live_one(server: Server, number: int) -> int | None:
    """One request's whole life; returns its status, None for a client that left."""
    dice = random.Random(number)
    script, stream = dice.choice(SCRIPTS), dice.random() < 0.5
    if dice.random() < 0.3:
        with RawClient(server, chat_body(script, stream=stream)) as client:
            if dice.random() < 0.5:
                client.read_until(b"\r\n\r\n")
            return None
    if dice.random() < 0.2:
        answer: httpx.Response = server.complete(["a b"] * dice.randint(2, 5), stream=stream)
    else:
        answer = server.chat(script, stream=stream)
    if answer.status_code == 429:
        time.sleep(REFUSED_WAIT_S)
    return answer.status_code


def test_every_request_ends_once_and_leaves_nothing(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 4, "--queue-size", 5, "--queue-timeout", 1)
    with ThreadPoolExecutor(12) as pool:
        statuses = Counter(pool.map(lambda number: live_one(server, number), range(REQUESTS)))
    server.wait_stats(active_requests=0, rows_used=0, waiting_requests=0, running_requests=0)
    stats = server.stats()
    # A client may leave before its request was read: that never was one.
    assert 0 <= REQUESTS - sum(stats[name] for name in OUTCOMES) <= statuses[None] - stats["cancelled"]
    assert set(statuses) <= {None, 200, 400, 429, 500, 504}
    # A stream's 200 is no promise of how it ends.
    assert all(stats[name] > 0 for name in OUTCOMES), {name: stats[name] for name in OUTCOMES}
    assert stats["refused"] >= statuses[429]
    assert stats["timed_out"] >= statuses[504]
    assert stats["cancelled"] <= statuses[None]
    assert server.chat("hi").status_code == 200
    assert "Traceback" not in server.output()
