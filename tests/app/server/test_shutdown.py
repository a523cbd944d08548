"""SIGTERM and Ctrl-C: nothing new, what runs may finish, exit code 0, nobody is left."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.running.processes import lives
from support.running.raw import RawClient
from support.running.servers import EXIT_S, SCRIPTED, Server, chat_body, wait_for
from support.running.streams import DONE, events, open_stream, text_of

from mlx_server.app.cli.runner import stopping_line

MESSAGE = "The server is shutting down and takes no new requests."
CUT_SHORT = "The server is shutting down, and ended this request before it was complete."
ENDLESS = {"tokens": 4000, "interval_s": 0.02}


@pytest.fixture
def server(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 1)


def check_ended(server: Server, pids: list[int], code: int = 0) -> None:
    assert pids
    assert server.process.wait(EXIT_S) == code, server.output()
    assert not any(map(lives, pids))
    assert "Traceback" not in server.output()


def check_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json()["detail"] == answer.json()["error"]["message"] == MESSAGE
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == ("server_error", "shutting_down")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_what_runs_finish_and_refuses_the_rest(server: Server, number: signal.Signals) -> None:
    pids = server.worker_pids()
    with ThreadPoolExecutor(1) as pool, open_stream(server, chat_body({"tokens": 30, "interval_s": 0.05})) as response:
        stream = events(response.iter_lines())
        begun = [next(stream) for _ in range(2)]
        waiting = pool.submit(server.chat, "hi")
        server.wait_stats(waiting_requests=1)
        server.process.send_signal(number)
        check_refused(waiting.result())
        for streamed in (False, True):
            check_refused(server.chat("hi", stream=streamed))
        assert server.get("/health").json()["worker"] == "stopping"
        assert server.get("/health/ready").status_code == 503
        *chunks, done = [*begun, *stream]
    assert done == DONE
    assert text_of(chunks) == "token " * 30
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    check_ended(server, pids)


def test_one_request_is_one() -> None:
    assert stopping_line(1, 30.0).startswith("Stopping: 1 running request may take up to 30 s to finish")


def test_whole_answer_is_finished_before_the_end(server: Server) -> None:
    pids = server.worker_pids()
    with RawClient(server, chat_body({"tokens": 10, "interval_s": 0.05})) as client:
        server.wait_stats(running_requests=1)
        server.process.send_signal(signal.SIGTERM)
        assert client.status == 200
        client.read_until(b'"finish_reason":"length"')
    check_ended(server, pids)


def test_drain_timeout_ends_streams_with_an_error(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--drain-timeout", 0.5)
    pids = server.worker_pids()
    with open_stream(server, chat_body(ENDLESS)) as response, RawClient(server, chat_body(ENDLESS)) as whole:
        stream = events(response.iter_lines())
        begun = [next(stream) for _ in range(2)]
        server.wait_stats(running_requests=2)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        *chunks, error = [*begun, *stream]
        assert whole.status == 503
    assert text_of(chunks).startswith("token ")
    assert DONE not in chunks
    assert (error["error"]["code"], error["detail"]) == ("shutting_down", CUT_SHORT)
    check_ended(server, pids)
    assert "Stopping: 2 running requests may take up to 0.5 s to finish (--drain-timeout" in server.output()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("script", [ENDLESS, {"hang_at": 1}], ids=["running", "hanging"])
def test_second_signal_ends_at_once(server: Server, script: dict[str, object], number: signal.Signals) -> None:
    pids = server.worker_pids()
    with RawClient(server, chat_body(script, stream=True)):
        server.wait_stats(running_requests=1)
        server.process.send_signal(number)
        server.wait_until(lambda: server.get("/health").json()["worker"] == "stopping")
        started = time.monotonic()
        server.process.send_signal(number)
        check_ended(server, pids)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once(server: Server, number: signal.Signals) -> None:
    pids = server.worker_pids()
    started = time.monotonic()
    server.process.send_signal(number)
    check_ended(server, pids)
    assert time.monotonic() - started < 3


def test_idle_connections_do_not_keep_the_server(server: Server) -> None:
    with httpx.Client() as keeping:
        keeping.get(f"{server.root}/health")
        assert server.stop() == 0


def test_reader_that_is_slow_does_not_keep_the_server(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--drain-timeout", 0.5)
    pids = server.worker_pids()
    body = chat_body({"tokens": 4000, "text": "x" * 5000}, stream=True)
    with RawClient(server, body, receive_buffer=4096) as client:
        client.read_until(b"xxx")
        server.wait_stats(active_requests=0)
        server.process.send_signal(signal.SIGTERM)
        check_ended(server, pids)


@pytest.mark.parametrize("busy", [False, True])
def test_worker_whose_parent_was_killed_ends_by_itself(server: Server, busy: bool) -> None:
    [pid] = server.worker_pids()
    with RawClient(server, chat_body(ENDLESS if busy else "hi", stream=True)) as client:
        client.read_until(b"token ")
        server.process.kill()
        server.process.wait()
    wait_for(lambda: not lives(pid), 10)


@pytest.mark.model
def test_real_worker_ends_with_the_server_or_without_it(
    launch: Callable[..., Server], tiny_model: Callable[[str], object]
) -> None:
    servers = [launch("--model-path", tiny_model("llama"), wait=False) for _ in range(2)]
    for server in servers:
        server.wait_ready()
    orderly, killed = servers
    pids = orderly.worker_pids()
    [orphan] = killed.worker_pids()
    body = chat_body("hi", stream=True, max_tokens=400, logit_bias={"2": -100})
    with RawClient(killed, body) as client, RawClient(orderly, body) as other:
        client.read_until(b"data: ")
        other.read_until(b"data: ")
        killed.process.kill()
        killed.process.wait()
        orderly.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" in other.read_to_end()
    wait_for(lambda: not lives(orphan), 10)
    check_ended(orderly, pids)
