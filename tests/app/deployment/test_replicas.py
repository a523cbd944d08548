"""One model, several worker processes: they share the load, and one that dies takes nothing with it."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from support.running.metrics import value
from support.running.servers import SCRIPTED, Server
from support.running.streams import stream_chat, text_of

ROWS = 4


def wait_all_ready(server: Server, count: int = 2) -> None:
    server.wait_until(lambda: server.stats()["workers"] == {"ready": count})


def ask(server: Server, interval_s: float) -> httpx.Response:
    return server.chat({"tokens": 30, "interval_s": interval_s})


def test_a_replica_that_is_killed_under_load_costs_no_request(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--replicas", 2, "--max-concurrency", ROWS)
    wait_all_ready(server)
    pids = server.worker_pids()
    assert len(pids) == 2
    assert (server.stats()["rows_granted"], server.stats()["max_concurrency"]) == (2 * ROWS, 2 * ROWS)
    with ThreadPoolExecutor(3 * ROWS + 1) as pool:
        answers = [pool.submit(ask, server, 0.1) for _ in range(3 * ROWS)]
        server.wait_stats(running_requests=2 * ROWS, waiting_requests=ROWS, rows_used=2 * ROWS)
        psutil.Process(pids[0]).send_signal(signal.SIGKILL)
        server.wait_until(lambda: server.stats()["replayed"] == ROWS)
        health = server.get("/health").json()
        assert (health["status"], health["worker"]) == ("healthy", "ready")
        assert server.get("/health/ready").status_code == 200
        assert [answer.result().status_code for answer in answers] == [200] * len(answers)
    assert pids[1] in server.worker_pids()
    wait_all_ready(server)
    stats = server.stats()
    assert (stats["served"], stats["replayed"], stats["worker_restarts"]) == (3 * ROWS, ROWS, 1)
    assert value(server, "worker_restarts_total") == 1
    assert value(server, "worker_state", state="ready") == 2
    assert server.get("/health").json()["workers"] == {"ready": 2}


def test_a_stream_ends_only_with_the_replica_that_writes_it(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--replicas", 2, "--max-concurrency", 1)
    wait_all_ready(server)
    with ThreadPoolExecutor(1) as pool:
        neighbour = pool.submit(ask, server, 0.1)
        server.wait_stats(running_requests=1)
        *chunks, error = stream_chat(server, {"tokens": 20, "crash_at": 3})
        assert text_of(chunks) == "token token "
        assert error["error"]["code"] == "worker_lost"
        assert neighbour.result().json()["usage"]["completion_tokens"] == 30


def test_the_load_is_balanced_and_questions_go_to_the_replica_that_lives(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--replicas", 2, "--max-concurrency", ROWS)
    wait_all_ready(server)
    [first, _] = server.worker_pids()
    with ThreadPoolExecutor(ROWS) as pool:
        answers = [pool.submit(ask, server, 0.1) for _ in range(ROWS)]
        server.wait_stats(running_requests=ROWS)
        psutil.Process(first).send_signal(signal.SIGKILL)
        server.wait_until(lambda: server.stats()["worker_restarts"] == 1)
        assert server.stats()["replayed"] == ROWS // 2
        assert server.post("/tokenize", {"prompt": "one two"}).status_code == 200
        assert [answer.result().status_code for answer in answers] == [200] * ROWS


@pytest.mark.parametrize("how", ["fail", "die"])
def test_a_model_that_no_replica_can_load_ends_the_server(launch: Callable[..., Server], how: str) -> None:
    server = launch("--model-type", "scripted", "--model-path", f"scripted:{how}", "--replicas", 2, wait=False)
    assert server.process.wait(30) == 3
    assert server.output().count("Error:") == 1
