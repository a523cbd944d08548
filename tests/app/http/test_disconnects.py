"""A client that leaves gives its place back at once, whatever its request was doing, and nobody calls that an error."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.running.metrics import value
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving

SOON_S = 1.0
LONG = {"first_token_s": 60}
ENDLESS = {"tokens": 4000, "interval_s": 0.02}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 2) as server:
        yield server
        output = server.output()
    assert "ERROR" not in output
    assert "Traceback" not in output


@contextlib.contextmanager
def place_given_back(server: Server) -> Iterator[None]:
    """What happens inside cancels one request, whose place is free within a second."""
    before = server.stats()
    yield
    server.wait_stats(
        SOON_S,
        active_requests=before["active_requests"],
        rows_used=before["rows_used"],
        cancelled=before["cancelled"] + 1,
        failed=before["failed"],
        served=before["served"],
    )


@pytest.mark.parametrize("stream", [False, True])
def test_client_leaves_before_the_first_token(server: Server, stream: bool) -> None:
    with place_given_back(server), RawClient(server, chat_body(LONG, stream=stream)):
        server.wait_stats(running_requests=1)


@pytest.mark.parametrize("stream", [False, True])
def test_client_leaves_while_its_prompt_is_prepared(server: Server, stream: bool) -> None:
    with place_given_back(server), RawClient(server, chat_body({"prepare_s": 0.6}, stream=stream)):
        server.wait_stats(active_requests=1)


def test_client_leaves_mid_stream(server: Server) -> None:
    with place_given_back(server), RawClient(server, chat_body(ENDLESS, stream=True)) as client:
        client.read_until(b'"content":"token "')


def test_client_leaves_while_a_whole_answer_is_made(server: Server) -> None:
    with place_given_back(server):
        tokens = value(server, "generated_tokens_total")
        with RawClient(server, chat_body(ENDLESS)):
            server.wait_until(lambda: value(server, "generated_tokens_total") > tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_client_leaves_the_queue(server: Server, stream: bool) -> None:
    with RawClient(server, chat_body(LONG)), RawClient(server, chat_body(LONG)):
        server.wait_stats(running_requests=2)
        with place_given_back(server), RawClient(server, chat_body("hi", stream=stream)):
            server.wait_stats(waiting_requests=1)
    server.wait_stats(active_requests=0)


def test_client_leaves_some_of_its_prompts_waiting(server: Server) -> None:
    with place_given_back(server), RawClient(server, {"prompt": ['{"first_token_s": 60}'] * 5}, "/v1/completions"):
        server.wait_stats(rows_used=2)


def test_client_leaves_while_the_server_is_blocked_by_it(server: Server) -> None:
    # The first prompt's text overfills the connection's buffers (3 MB on Linux), the second one keeps the row.
    flood = '{"tokens": 151, "text": "%s"}' % ("x" * 20_000)
    with place_given_back(server):
        tokens = value(server, "generated_tokens_total")
        body = {"prompt": [flood, '{"first_token_s": 60}'], "stream": True}
        with RawClient(server, body, "/v1/completions", receive_buffer=4096):
            server.wait_until(lambda: value(server, "generated_tokens_total") == tokens + 151)


def test_everybody_leaves_at_once(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 4, "--queue-size", 200)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(RawClient(server, chat_body(LONG))) for _ in range(4)]
        server.wait_stats(running_requests=4)
        body = chat_body("hi")
        queued = [stack.enter_context(RawClient(server, {**body, "stream": n % 2 == 0})) for n in range(200)]
        server.wait_stats(waiting_requests=200, active_requests=204)
        assert server.chat("hi").status_code == 429
        for client in queued[::2]:
            client.leave()
        server.wait_stats(SOON_S, waiting_requests=100, active_requests=104, cancelled=100)
        for client in running:
            client.leave()
        assert [client.status for client in queued[1::2]] == [200] * 100
        server.wait_stats(active_requests=0, rows_used=0, served=100, cancelled=104, failed=0)
    assert "ERROR" not in server.output()
    assert "Traceback" not in server.output()


@pytest.mark.model
@pytest.mark.parametrize("stream", [False, True])
def test_real_model_stops_when_its_client_leaves(smollm2_server: Server, stream: bool) -> None:
    with place_given_back(smollm2_server):
        tokens = value(smollm2_server, "generated_tokens_total")
        asked: dict[str, Any] = {"max_tokens": 4000, "logit_bias": {"2": -100}, "stream": stream}
        with RawClient(smollm2_server, chat_body("Tell me everything.", **asked)):
            smollm2_server.wait_until(lambda: value(smollm2_server, "generated_tokens_total") > tokens)


@pytest.mark.model
def test_real_model_drops_a_prompt_that_nobody_waits_for(smollm2_server: Server) -> None:
    long = {"prompt": [[7] * 8000], "max_tokens": 1}
    with place_given_back(smollm2_server), RawClient(smollm2_server, long, "/v1/completions"):
        smollm2_server.wait_stats(running_requests=1)
    answer = smollm2_server.complete("The capital of France is", max_tokens=1, temperature=0)
    assert answer.json()["choices"][0]["text"] == " Paris"
