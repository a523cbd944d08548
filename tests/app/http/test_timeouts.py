"""`--queue-timeout` bounds a request's time without a token, `--request-timeout` all of it; both stop its work."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving
from support.running.streams import DONE, stream_chat, text_of

MESSAGE = "Request processing timed out after 1 seconds without a token (--queue-timeout)"
IN_ALL = "Request processing timed out after 1 seconds in all (--request-timeout)"
HALF_MADE = {"tokens": 1000, "interval_s": 0.05}
LONG = {"tokens": 50, "interval_s": 0.04}
SILENT = {"tokens": 2, "interval_s": 60}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 1, "--queue-timeout", 1) as server:
        yield server


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 1, "--request-timeout", 1) as server:
        yield server


def check_row_is_free(server: Server, timed_out_before: int) -> None:
    started = time.monotonic()
    assert server.chat("hi").status_code == 200
    assert time.monotonic() - started < 1
    stats = server.stats()
    assert (stats["active_requests"], stats["rows_used"]) == (0, 0)
    assert stats["timed_out"] == timed_out_before + 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [{"first_token_s": 60}, {"prepare_s": 1.5}], ids=["running", "being prepared"])
def test_request_without_a_byte_times_out_with_504(server: Server, script: dict[str, Any], stream: bool) -> None:
    before = server.stats()["timed_out"]
    started = time.monotonic()
    answer = server.chat(script, stream=stream)
    assert 1 <= time.monotonic() - started < 3
    assert answer.status_code == 504
    assert answer.json()["error"]["message"] == answer.json()["detail"] == MESSAGE
    assert answer.json()["error"]["type"] == "timeout_error"
    if "prepare_s" not in script:
        check_row_is_free(server, before)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_work_without_a_result_times_out_with_504(server: Server, path: str) -> None:
    script = '{"first_token_s": 60}'
    body = {"input": script} if path == "/v1/embeddings" else {"query": "q", "documents": [script]}
    answer = server.post(path, body)
    assert (answer.status_code, answer.json()["detail"]) == (504, MESSAGE.replace("token", "result"))


@pytest.mark.parametrize("stream", [False, True])
def test_answer_that_makes_progress_is_never_cut(server: Server, stream: bool) -> None:
    before = server.stats()["timed_out"]
    if stream:
        *chunks, done = stream_chat(server, LONG)
        assert (text_of(chunks).split(), done) == (["token"] * 50, DONE)
    else:
        assert server.chat(LONG).json()["usage"]["completion_tokens"] == 50
    assert server.stats()["timed_out"] == before


def test_embeddings_that_come_one_by_one_are_never_cut(server: Server) -> None:
    answer = server.post("/v1/embeddings", {"input": ['{"interval_s": 0.3}'] * 6})
    assert (answer.status_code, len(answer.json()["data"])) == (200, 6)


def test_whole_answer_that_falls_silent_times_out_with_504(server: Server) -> None:
    before = server.stats()["timed_out"]
    answer = server.chat(SILENT)
    assert (answer.status_code, answer.json()["detail"]) == (504, MESSAGE)
    check_row_is_free(server, before)


def test_whole_answer_that_is_half_made_meets_the_limit_with_504(limited: Server) -> None:
    before = limited.stats()["timed_out"]
    answer = limited.chat(HALF_MADE)
    assert (answer.status_code, answer.json()["detail"]) == (504, IN_ALL)
    check_row_is_free(limited, before)


@pytest.mark.parametrize(
    ("name", "script", "message"), [("server", SILENT, MESSAGE), ("limited", HALF_MADE, IN_ALL)], ids=["silent", "long"]
)
def test_stream_that_has_begun_ends_with_an_error_event(
    request: pytest.FixtureRequest, name: str, script: dict[str, Any], message: str
) -> None:
    server: Server = request.getfixturevalue(name)
    before = server.stats()["timed_out"]
    *chunks, error = stream_chat(server, script)
    assert text_of(chunks).startswith("token ")
    assert DONE not in chunks
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * len(chunks)
    assert error == {
        "error": {"message": message, "type": "timeout_error", "param": None, "code": "timeout"},
        "detail": message,
    }
    check_row_is_free(server, before)


def test_waiting_request_times_out_with_504(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=3", "--queue-timeout", 1, wait=False)
    server.wait_listening()
    answer = server.chat("hi")
    assert (answer.status_code, answer.json()["detail"]) == (504, MESSAGE)
    stats = server.stats()
    assert (stats["timed_out"], stats["waiting_requests"], stats["served"]) == (1, 0, 0)
    server.wait_ready()
    assert server.chat("hi").status_code == 200


def test_message_names_the_seconds_as_they_were_given(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--queue-timeout", 0.5)
    assert server.chat({"first_token_s": 60}).json()["detail"] == MESSAGE.replace("1", "0.5")


def test_request_behind_a_timed_out_one_runs(server: Server) -> None:
    with RawClient(server, chat_body({"first_token_s": 60})):
        server.wait_stats(running_requests=1)
        server.wait_stats(running_requests=0)
        assert server.chat("hi").status_code == 200
