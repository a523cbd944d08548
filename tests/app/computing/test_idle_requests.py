"""Idle requests make way for all others, lose nothing by it, and are served when nobody else is."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.running.processes import kill_worker
from support.running.servers import SCRIPTED, Server, chat_body, serving

IDLE = {"X-Priority": "idle"}
CHAT = "/v1/chat/completions"


def idle(server: Server, script: Any, **more: Any) -> httpx.Response:
    return server.post(CHAT, chat_body(script, **more), headers=IDLE)


@contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Do something meanwhile; what it gave is had by calling the value."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work).result


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two rows, and two requests that may wait."""
    with serving(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 2) as server:
        yield server


def test_an_idle_request_makes_way_and_goes_on(server: Server) -> None:
    """It has said half of its answer by then, and says the other half later."""
    with in_background(lambda: idle(server, {"tokens": 20, "interval_s": 0.05})) as slow:
        server.wait_stats(running_requests=1)
        time.sleep(0.4)
        with in_background(lambda: server.chat({"tokens": 4, "interval_s": 0.1})) as urgent:
            server.wait_stats(running_requests=1, waiting_requests=1)
            assert urgent().status_code == 200
        answer = slow()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "token " * 20
    assert answer.json()["usage"]["completion_tokens"] == 20


def test_idle_requests_take_nobody_elses_place_and_never_time_out(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 2, "--queue-size", 2, "--queue-timeout", 2)
    with ThreadPoolExecutor(8) as pool:
        patient = [pool.submit(idle, server, {"tokens": 1, "first_token_s": 0.3}) for _ in range(4)]
        server.wait_until(lambda: sum(server.stats()[name] for name in ("running_requests", "waiting_requests")) == 4)
        refused = idle(server, {"tokens": 1})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        held = [pool.submit(server.chat, {"tokens": 30, "interval_s": 0.05}) for _ in range(4)]
        assert [one.result().status_code for one in held] == [200] * 4, "each has a row, or a place to wait"
        assert [one.result().status_code for one in patient] == [200] * 4, (
            "though they waited longer than --queue-timeout"
        )


def test_a_parked_stream_says_that_it_waits(server: Server) -> None:
    body = chat_body({"tokens": 4, "first_token_s": 0.4}, stream=True, stream_options={"include_progress": True})
    with in_background(lambda: server.chat({"tokens": 40, "interval_s": 0.1})):
        server.wait_stats(running_requests=1)
        text = server.post(CHAT, body, headers=IDLE).text
    assert '"state":"queued","queue_position":1' in text
    assert text.endswith("data: [DONE]\n\n")


def test_what_a_parked_request_has_said_dies_with_its_worker_and_is_said_again(server: Server) -> None:
    with in_background(lambda: idle(server, {"tokens": 10, "interval_s": 0.05})) as parked:
        server.wait_stats(running_requests=1)
        time.sleep(0.2)
        with in_background(lambda: server.chat({"tokens": 20, "interval_s": 0.05})) as urgent:
            server.wait_stats(running_requests=1, waiting_requests=1)
            kill_worker(server)
            assert urgent().status_code == 200
        assert parked().json()["choices"][0]["message"]["content"] == "token " * 10


def test_idle_rows_may_be_held_beside_others(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 4, "--idle-rows", 1)
    with ThreadPoolExecutor(3) as pool:
        patient = [pool.submit(idle, server, {"tokens": 20, "interval_s": 0.05}) for _ in range(2)]
        server.wait_stats(running_requests=2)
        urgent = pool.submit(server.chat, {"tokens": 10, "interval_s": 0.05})
        server.wait_stats(running_requests=2, waiting_requests=1)
        assert {one.result().status_code for one in (*patient, urgent)} == {200}


TEXT = "The river ran past the mill and the old bridge, and nobody in the village could say since when. " * 4
ASKED = [
    {"temperature": 0},
    {"temperature": 0.8, "seed": 7},
    {"temperature": 0.8, "seed": 8, "frequency_penalty": 0.5, "n": 2},
    {"temperature": 0, "response_format": {"type": "json_object"}},
]


@pytest.mark.parametrize("architecture", ["llama", "mamba", "gemma3_text"])
def test_what_is_interrupted_says_the_same(
    tiny_model: Callable[[str], Path], launch: Callable[..., Server], architecture: str
) -> None:
    """Of models whose states can be cut short, and of others; while prompts are read, and while answers are written."""
    server = launch("--model-path", tiny_model(architecture), "--max-concurrency", 8, "--prefill-step-size", 16)
    bodies = [chat_body(f"{number} {TEXT}", max_tokens=100, **more) for number, more in enumerate(ASKED)]

    def says(body: dict[str, Any], headers: dict[str, str]) -> list[str]:
        answer = server.post(CHAT, body, headers=headers)
        assert answer.status_code == 200, answer.text
        return [choice["message"]["content"] for choice in answer.json()["choices"]]

    alone = [says(body, {}) for body in bodies]
    interrupted = 0
    with ThreadPoolExecutor(len(bodies)) as pool:
        while interrupted < 5:
            patient = [pool.submit(says, body, IDLE) for body in bodies]
            while not all(one.done() for one in patient):
                server.chat("Hi", max_tokens=1)
                interrupted += 1
                time.sleep(0.02)
            assert [one.result() for one in patient] == alone
