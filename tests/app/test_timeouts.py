"""`--queue-timeout` bounds a request's whole time, whatever it is doing, and stops its work."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.raw import RawClient
from support.servers import SCRIPTED, Server, chat_body
from support.streams import DONE, stream_chat, text_of

MESSAGE = "Request processing timed out after 1 seconds"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(*SCRIPTED, "--max-concurrency", 1, "--queue-timeout", 1)
    server.wait_ready()
    yield server
    server.close()


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


def test_whole_answer_that_is_half_made_times_out_with_504(server: Server) -> None:
    before = server.stats()["timed_out"]
    answer = server.chat({"tokens": 1000, "interval_s": 0.05})
    assert (answer.status_code, answer.json()["detail"]) == (504, MESSAGE)
    check_row_is_free(server, before)


def test_stream_that_has_begun_ends_with_an_error_event(server: Server) -> None:
    before = server.stats()["timed_out"]
    *chunks, error = stream_chat(server, {"tokens": 1000, "interval_s": 0.05})
    assert text_of(chunks).startswith("token token ")
    assert DONE not in chunks
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * len(chunks)
    assert error == {
        "error": {"message": MESSAGE, "type": "timeout_error", "param": None, "code": "timeout"},
        "detail": MESSAGE,
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
    assert server.chat({"first_token_s": 60}).json()["detail"] == "Request processing timed out after 0.5 seconds"


def test_request_behind_a_timed_out_one_runs(server: Server) -> None:
    with RawClient(server, chat_body({"first_token_s": 60})):
        server.wait_stats(running_requests=1)
        server.wait_stats(running_requests=0)
        assert server.chat("hi").status_code == 200
