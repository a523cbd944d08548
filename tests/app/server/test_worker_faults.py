"""A worker that dies, hangs or raises: each request gets one honest end, and the next one is served."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.running.metrics import value
from support.running.processes import kill_worker, lives
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body
from support.running.streams import DONE, events, open_stream, stream_chat, text_of


def check_restarted(server: Server, times: int = 1) -> None:
    assert server.chat("hi").status_code == 200
    assert value(server, "worker_restarts_total") == times
    assert value(server, "worker_state", state="ready") == 1
    stats = server.stats()
    assert (stats["active_requests"], stats["rows_used"]) == (0, 0)


def check_lost(error: Any) -> None:
    assert error["error"]["type"] == "server_error"
    assert error["error"]["code"] == "worker_lost"
    assert error["error"]["message"] == error["detail"]


def test_worker_killed_mid_stream_ends_the_stream_with_an_error(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    with open_stream(server, chat_body({"tokens": 1000, "interval_s": 0.02})) as response:
        stream = events(response.iter_lines())
        begun = [next(stream) for _ in range(3)]
        kill_worker(server)
        *chunks, error = stream
    assert text_of([*begun, *chunks]).startswith("token token ")
    assert DONE not in chunks
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    check_lost(error)
    assert error["detail"] == "The worker process died of SIGKILL"
    check_restarted(server)


@pytest.mark.parametrize("stream", [False, True])
def test_request_without_a_byte_is_replayed_when_the_worker_is_killed(
    launch: Callable[..., Server], stream: bool
) -> None:
    server = launch(*SCRIPTED)
    script = {"tokens": 5, "interval_s": 0.1, "first_token_s": 1 if stream else 0}
    with RawClient(server, chat_body(script, stream=stream)) as client:
        server.wait_stats(running_requests=1)
        if not stream:
            server.wait_until(lambda: value(server, "generated_tokens_total") > 0)
        kill_worker(server)
        assert client.status == 200
        if stream:
            assert client.read_until(b"[DONE]").count(b'"content":"token "') == 5
        else:
            assert b'"content":"token token token token token "' in client.read_until(b"}]")
    assert server.stats()["replayed"] == 1
    check_restarted(server)


def test_poisonous_request_ends_alone(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1)
    with ThreadPoolExecutor(2) as pool, RawClient(server, chat_body({"first_token_s": 60})) as first:
        server.wait_stats(running_requests=1)
        poisonous = pool.submit(server.chat, {"die_at": 1})
        server.wait_stats(waiting_requests=1)
        innocent = pool.submit(server.chat, "hi")
        server.wait_stats(waiting_requests=2)
        first.leave()
        assert poisonous.result().status_code == 502
        assert innocent.result().status_code == 200
    check_lost(poisonous.result().json())
    assert poisonous.result().json()["detail"] == "The worker process exited with code 9"
    check_restarted(server, times=2)


def test_engine_that_raises_for_a_request_fails_that_request(scripted_server: Server) -> None:
    [pid] = scripted_server.worker_pids()
    with ThreadPoolExecutor(1) as pool:
        neighbour = pool.submit(scripted_server.chat, {"tokens": 20, "interval_s": 0.02})
        for stream in (False, True):
            answer = scripted_server.chat({"raise_at": 1}, stream=stream)
            assert answer.status_code == 500
            assert answer.json()["detail"] == "Failed to generate response: the script says so"
            assert answer.json()["error"]["type"] == "server_error"
        assert scripted_server.chat({"raise_at": 3}).status_code == 500
        *chunks, error = stream_chat(scripted_server, {"raise_at": 3})
        assert text_of(chunks) == "token token "
        assert error["detail"] == "Failed to generate response: the script says so"
        assert neighbour.result().json()["usage"]["completion_tokens"] == 20
    assert scripted_server.worker_pids() == [pid]


def test_one_bad_prompt_ends_its_whole_request(scripted_server: Server) -> None:
    endless = '{"tokens": 4000, "interval_s": 0.02}'
    assert scripted_server.complete([endless, '{"raise_at": 2}', endless]).status_code == 500
    scripted_server.wait_stats(2, active_requests=0, rows_used=0)
    assert scripted_server.complete([endless, '{"invalid": true}']).status_code == 400
    scripted_server.wait_stats(2, active_requests=0, rows_used=0)
    assert scripted_server.complete(["hi"] * 9).status_code == 200


def test_engine_that_crashes_is_started_again(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    *chunks, error = stream_chat(server, {"crash_at": 3})
    assert text_of(chunks) == "token token "
    check_lost(error)
    check_restarted(server)


def test_engine_that_hangs_is_killed(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--step-timeout", 1)
    [pid] = server.worker_pids()
    *chunks, error = stream_chat(server, {"hang_at": 3})
    assert text_of(chunks) == "token token "
    assert DONE not in chunks
    check_lost(error)
    assert error["detail"] == "The worker process was in one step for more than 1 s and was killed"
    check_restarted(server)
    assert not lives(pid)


def test_requests_wait_while_the_worker_is_started_again(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    kill_worker(server)
    server.wait_until(lambda: server.get("/health/ready").status_code == 503)
    assert server.get("/health").json()["worker"] in ("restarting", "loading")
    assert server.get("/health").status_code == 200
    check_restarted(server)
    assert server.get("/health/ready").status_code == 200


@pytest.mark.model
def test_real_model_says_the_same_after_its_worker_was_killed(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "long"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100_000}))
    server = launch("--model-path", folder)
    endless: dict[str, Any] = {"max_tokens": 50_000, "logit_bias": {"2": -100}}
    asked = {**endless, "max_tokens": 600, "temperature": 1, "seed": 5, "presence_penalty": 1}
    undisturbed = server.chat("hi", **asked).json()["choices"]
    with ThreadPoolExecutor(1) as pool, RawClient(server, chat_body("hello", stream=True, **endless)) as lost:
        lost.read_until(b"data: ")
        replayed = pool.submit(server.chat, "hi", **asked)
        server.wait_stats(running_requests=2)
        kill_worker(server)
        assert replayed.result().json()["choices"] == undisturbed
        assert b"worker_lost" in lost.read_to_end()
    assert server.stats()["replayed"] == 1
    assert value(server, "worker_restarts_total") == 1
