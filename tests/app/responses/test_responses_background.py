"""Responses in the background: they need no client, hold a place in the queue, and can be watched and cancelled."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from support.responses import response, stream
from support.running.clients import sdk
from support.running.servers import SCRIPTED, Server

RESPONSES = "/v1/responses"
LONG = {"first_token_s": 60}
SOON_S = 1.0


@pytest.fixture
def client(scripted_server: Server) -> Iterator[openai.OpenAI]:
    with sdk(scripted_server) as client:
        yield client


def start(client: openai.OpenAI, what: Any = "one two", **more: Any) -> Any:
    given = what if isinstance(what, str) else json.dumps(what)
    return client.responses.create(model="any", input=given, background=True, **more)


def wait_end(server: Server, client: openai.OpenAI, id_: str) -> Any:
    server.wait_until(lambda: client.responses.retrieve(id_).status not in ("queued", "in_progress"))
    return client.responses.retrieve(id_)


def test_response_is_made_without_a_client(scripted_server: Server, client: openai.OpenAI) -> None:
    begun = start(client, {"tokens": 3, "first_token_s": 1})
    assert (begun.status, begun.background, begun.output, begun.usage) == ("in_progress", True, [], None)
    assert client.responses.retrieve(begun.id).status == "in_progress"
    made = wait_end(scripted_server, client, begun.id)
    assert (made.status, made.output_text, made.usage.output_tokens) == ("incomplete", "token token token ", 3)
    assert client.responses.create(model="any", input="on", previous_response_id=begun.id).status == "incomplete"


def test_response_waits_in_the_queue_like_any_other(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    with sdk(server) as client:
        running, waiting = start(client, LONG), start(client, "one")
        assert (running.status, waiting.status) == ("in_progress", "queued")
        assert client.responses.retrieve(waiting.id).status == "queued"
        server.wait_stats(running_requests=1, waiting_requests=1)
        with pytest.raises(openai.RateLimitError):
            start(client)
        assert client.responses.cancel(running.id).status == "cancelled"
        assert wait_end(server, client, waiting.id).output_text == "token "


def test_what_follows_a_response_waits_for_its_end(client: openai.OpenAI) -> None:
    begun = start(client, LONG)
    with pytest.raises(openai.BadRequestError, match="not complete yet") as caught:
        client.responses.create(model="any", input="on", previous_response_id=begun.id)
    assert caught.value.param == "previous_response_id"
    client.responses.cancel(begun.id)


@pytest.mark.parametrize("streamed", [False, True])
def test_cancel_gives_the_place_back_at_once(scripted_server: Server, client: openai.OpenAI, streamed: bool) -> None:
    begun = start(client, {"tokens": 4000, "interval_s": 0.02}, stream=streamed)
    id_ = next(iter(begun)).response.id if streamed else begun.id
    scripted_server.wait_stats(running_requests=1)
    cancelled = client.responses.cancel(id_)
    assert cancelled.status == "cancelled"
    scripted_server.wait_stats(SOON_S, active_requests=0, rows_used=0)
    assert client.responses.cancel(id_) == client.responses.retrieve(id_) == cancelled
    if streamed:
        assert list(begun)[-1].type != "response.completed"


def test_only_what_is_in_the_background_can_be_cancelled(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="any", input="one")
    with pytest.raises(openai.BadRequestError, match="created with `background`"):
        client.responses.cancel(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_0")


def test_response_that_has_ended_is_not_cancelled_any_more(scripted_server: Server, client: openai.OpenAI) -> None:
    made = wait_end(scripted_server, client, start(client).id)
    assert client.responses.cancel(made.id) == made


def test_delete_ends_what_is_being_made(scripted_server: Server, client: openai.OpenAI) -> None:
    begun = start(client, LONG)
    client.responses.delete(begun.id)
    scripted_server.wait_stats(SOON_S, active_requests=0)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(begun.id)


def test_failure_is_in_the_response(scripted_server: Server, client: openai.OpenAI) -> None:
    for script, code in (({"raise_at": 2}, "server_error"), ({"invalid": True}, "invalid_prompt")):
        for streamed in (False, True):
            begun = start(client, script, stream=streamed)
            id_ = list(begun)[-1].response.id if streamed else begun.id
            failed = wait_end(scripted_server, client, id_)
            assert (failed.status, failed.error.code) == ("failed", code)
            assert "the script says" in failed.error.message


def test_lost_worker_costs_a_response_nothing(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    with sdk(server) as client:
        begun = start(client, {"tokens": 2, "first_token_s": 1})
        server.wait_stats(running_requests=1)
        [pid] = server.worker_pids()
        os.kill(pid, signal.SIGKILL)
        assert wait_end(server, client, begun.id).output_text == "token token "
        assert server.stats()["replayed"] == 1


def test_stream_can_be_left_and_taken_up_again(scripted_server: Server, client: openai.OpenAI) -> None:
    seen = []
    with start(client, {"tokens": 30, "interval_s": 0.02}, stream=True) as events:
        for event in events:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    id_ = seen[0].response.id
    assert client.responses.retrieve(id_).status == "in_progress"
    with client.responses.retrieve(id_, stream=True, starting_after=seen[-1].sequence_number) as events:
        rest = list(events)
    assert [event.sequence_number for event in seen + rest] == list(range(len(seen) + len(rest)))
    deltas = [event.delta for event in seen + rest if event.type == "response.output_text.delta"]
    assert deltas == ["token "] * 30
    assert rest[-1].response == client.responses.retrieve(id_)


def test_stream_can_be_read_again_after_its_end(scripted_server: Server, client: openai.OpenAI) -> None:
    first = list(start(client, stream=True))
    id_ = first[-1].response.id
    scripted_server.wait_stats(active_requests=0)
    assert list(client.responses.retrieve(id_, stream=True)) == first
    assert list(client.responses.retrieve(id_, stream=True, starting_after=4)) == first[5:]
    assert list(client.responses.retrieve(id_, stream=True, starting_after=99)) == []
    headers = {"x-api-key": client.api_key}
    again = scripted_server.get(f"{RESPONSES}/{id_}?stream=true", headers=headers)
    assert again.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert len(stream(again.content)) == len(first)


def test_what_was_not_streamed_cannot_be_streamed_later(scripted_server: Server, client: openai.OpenAI) -> None:
    begun = start(client, {"first_token_s": 0.2})
    for _ in range(2):
        with pytest.raises(openai.BadRequestError, match="both `background` and `stream`"):
            client.responses.retrieve(begun.id, stream=True)
        wait_end(scripted_server, client, begun.id)


def test_answer_comes_before_the_response_is_made(scripted_server: Server) -> None:
    began = time.monotonic()
    body = {"input": json.dumps({"first_token_s": 2}), "background": True}
    begun = response(scripted_server.post(RESPONSES, body).content)
    assert time.monotonic() - began < 2
    assert begun.status == "in_progress"


def test_server_that_stops_tells_what_it_ended(launch: Callable[..., Server], tmp_path: Any) -> None:
    first = launch(*SCRIPTED, "--data-dir", tmp_path, "--drain-timeout", 0)
    with sdk(first) as client:
        begun = start(client, LONG)
    assert first.stop() == 0
    assert "Traceback" not in first.output()
    with sdk(launch(*SCRIPTED, "--data-dir", tmp_path)) as client:
        ended = client.responses.retrieve(begun.id)
    assert (ended.status, ended.error.code) == ("failed", "server_error")
    assert ended.error.message.startswith("The server is shutting down")


@pytest.mark.model
def test_real_model_works_in_the_background(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        begun = start(client, "What is the capital of France?", temperature=0, max_output_tokens=20)
        made = wait_end(smollm2_server, client, begun.id)
    assert (made.status, made.output_text) == ("completed", "The capital of France is Paris.")
