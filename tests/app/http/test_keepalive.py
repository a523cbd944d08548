"""Streams whose first token takes long: their heads go out, they show that they live, and nothing of that is final."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.running.clients import sdk
from support.running.processes import kill_worker
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving
from websockets.sync.client import connect

KEEPALIVE_S = 0.2
SLOW = {"tokens": 3, "first_token_s": 0.9}
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
TEXT = "token token token "
ALIVE = b": still at it\n"

Events = list[tuple[str | None, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 1, "--keepalive", KEEPALIVE_S) as server:
        yield server


def body_of(path: str, script: Any, **more: Any) -> dict[str, Any]:
    text = json.dumps(script)
    match path:
        case "/v1/completions":
            return {"prompt": text, "stream": True, **more}
        case "/v1/responses":
            return {"input": text, "stream": True, **more}
        case "/v1/messages":
            return chat_body(text, stream=True, max_tokens=100, **more)
        case _:
            return chat_body(text, stream=True, **more)


def follow(answer: httpx.Response) -> Iterator[tuple[str | None, Any]]:
    """Each event's name and data, as they come."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            data = fields["data"]
            yield fields.get("event"), data if data == "[DONE]" else json.loads(data)
            fields = {}


def read(answer: httpx.Response) -> Events:
    """All events of an answer."""
    return list(follow(answer))


@contextmanager
def opened(server: Server, path: str, script: Any, **more: Any) -> Iterator[Iterator[tuple[str | None, Any]]]:
    """The events of a stream, while it is open."""
    with server.http.stream("POST", f"{server.root}{path}", json=body_of(path, script, **more)) as answer:
        assert answer.status_code == 200
        yield follow(answer)


def post(server: Server, path: str, script: Any, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    answer = server.post(path, body_of(path, script, **more), headers=headers)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8", answer.text
    assert answer.status_code == 200
    return answer


def says(data: Any) -> str:
    """The text that an event of any API adds."""
    match data:
        case {"choices": [{"delta": {"content": str(text)}}]} | {"choices": [{"text": str(text)}]}:
            return text
        case {"type": "response.output_text.delta", "delta": text} | {"delta": {"text": text}}:
            return str(text)
    return ""


def text_of(events: Events) -> str:
    return "".join(says(data) for _, data in events)


def signs_in(events: Events) -> Events:
    """What comes before the first text."""
    return events[: next(i for i, (_, data) in enumerate(events) if says(data))]


def test_chat_begins_and_then_sends_empty_deltas(server: Server) -> None:
    events = read(post(server, PATHS[0], SLOW))
    first, *signs = [data["choices"] for _, data in signs_in(events)]
    assert [choice["delta"] for choice in first] == [{"role": "assistant", "content": ""}]
    assert len(signs) >= 2
    assert all(sign == [{"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}] for sign in signs), signs
    assert (text_of(events), events[-1]) == (TEXT, (None, "[DONE]"))


def test_text_completion_sends_empty_texts(server: Server) -> None:
    events = read(post(server, PATHS[1], SLOW))
    signs = [data["choices"] for _, data in signs_in(events)]
    assert len(signs) >= 3
    assert all((sign[0]["text"], sign[0]["finish_reason"]) == ("", None) for sign in signs)
    assert (text_of(events), events[-1]) == (TEXT, (None, "[DONE]"))


def test_response_is_in_progress_again_and_again(server: Server) -> None:
    events = read(post(server, PATHS[2], SLOW))
    created, *signs = [name for name, data in signs_in(events) if not str(data["type"]).count("_item")][:-1]
    assert created == "response.created"
    assert set(signs) == {"response.in_progress"}
    assert len(signs) >= 3
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert text_of(events) == TEXT


def test_message_starts_with_its_prompts_tokens_and_then_pings(server: Server) -> None:
    events = read(post(server, PATHS[3], SLOW | {"prompt_tokens": 7}))
    signs = signs_in(events)[:-1]
    [start] = [data for name, data in signs if name == "message_start"]
    usage = start["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (7, 0)
    # Counting a prompt may take long itself on a machine that is busy: pings come before it then, too.
    pings = [data for name, data in signs if name != "message_start"]
    assert pings == [{"type": "ping"}] * len(pings)
    assert len(pings) >= 3
    [delta] = [data for name, data in events if name == "message_delta"]
    assert delta["usage"]["input_tokens"] == 7
    assert text_of(events) == TEXT


def test_message_whose_tokens_are_not_counted_pings_before_it_starts(server: Server) -> None:
    names = [name for name, _ in read(post(server, PATHS[3], {"prepare_s": 0.5, "tokens": 3}))]
    assert names[0] == "ping"
    assert names.count("message_start") == 1
    assert names[-1] == "message_stop"


def test_response_in_the_background_shows_life_and_its_events_stay_the_same(server: Server) -> None:
    path = PATHS[2]
    asked: dict[str, Any] = {"model": "any", "input": json.dumps(SLOW), "background": True, "stream": True}
    first = server.post(path, asked, headers={"Idempotency-Key": "life"})
    assert first.content.count(ALIVE) >= 3
    with sdk(server) as client:
        again = list(client.responses.create(**asked, extra_headers={"Idempotency-Key": "life"}))
        assert "".join(event.delta for event in again if event.type == "response.output_text.delta") == TEXT
        assert [event.sequence_number for event in again] == list(range(len(again)))
        assert list(client.responses.retrieve(again[-1].response.id, stream=True)) == again
    with connect(f"ws{server.root.removeprefix('http')}{path}") as socket:
        socket.send(json.dumps({"type": "response.create", **asked}))
        assert [json.loads(socket.recv(timeout=30))["type"] for _ in again] == [event.type for event in again]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_goes_out_early_where_tokens_come_in_time(server: Server, path: str) -> None:
    quick = read(post(server, path, {"tokens": 3}))
    assert len(signs_in(quick)) <= 5
    assert [name for name, _ in quick].count("ping") <= 1
    assert server.post(path, body_of(path, {"invalid": True})).status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_answer_shows_life_while_its_tokens_say_nothing(server: Server, path: str) -> None:
    events = read(post(server, path, {"tokens": 24, "interval_s": 0.05, "text": ""}))
    signs = [data for name, data in events if name in ("ping", "response.in_progress") or is_empty(data)]
    begun = {"/v1/chat/completions": 0, "/v1/completions": 0}.get(path, 1)
    assert 3 <= len(signs) - begun <= 6


def is_empty(data: Any) -> bool:
    """A chunk that says nothing, and is no end."""
    match data:
        case {"choices": [{"finish_reason": None, "delta": {**delta}}]}:
            return not delta
        case {"choices": [{"finish_reason": None, "text": text}]}:
            return not text
    return False


@pytest.mark.parametrize("path", PATHS)
def test_whole_answer_waits_in_silence(server: Server, path: str) -> None:
    answer = server.post(path, body_of(path, SLOW) | {"stream": False})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert TEXT in answer.text


def test_ignored_fields_are_told_with_the_early_head(server: Server) -> None:
    assert post(server, PATHS[0], SLOW, nonsense=1).headers["x-ignored-fields"] == "nonsense"


def test_silence_lasts_where_signs_are_off(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--keepalive", 0, "--queue-timeout", 0.7)
    assert server.post(PATHS[0], body_of(PATHS[0], {"first_token_s": 60})).status_code == 504


def test_openais_sdk_reads_through_signs_of_life(server: Server) -> None:
    text = json.dumps(SLOW)
    asked: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": text}]}
    with sdk(server) as client:
        with client.chat.completions.stream(**asked) as chat:
            chat.until_done()
        assert chat.current_completion_snapshot.choices[0].message.content == TEXT
        chunks = list(client.completions.create(model="any", prompt=text, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
        with client.responses.stream(model="any", input=text) as response:
            events = list(response)
        assert [event.type for event in events].count("response.in_progress") > 2
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT


@pytest.mark.parametrize("more", [{}, {"prepare_s": 0.5}], ids=["counted", "not-counted-yet"])
def test_anthropics_sdk_reads_through_signs_of_life(server: Server, more: dict[str, Any]) -> None:
    asked = [{"role": "user", "content": json.dumps(SLOW | more)}]
    with (
        anthropic.Anthropic(base_url=server.root, api_key="any", max_retries=0) as client,
        client.messages.stream(model="any", max_tokens=9, messages=asked) as stream,  # type: ignore[arg-type]
    ):
        assert stream.get_final_text() == TEXT
        assert stream.get_final_message().usage.output_tokens == 3


@pytest.mark.parametrize("path", PATHS)
def test_request_whose_head_is_out_is_replayed_when_its_worker_is_killed(server: Server, path: str) -> None:
    replayed = server.stats()["replayed"]
    with opened(server, path, SLOW) as events:
        begun = [next(events)]
        kill_worker(server)
        all_events = [*begun, *events]
    assert server.stats()["replayed"] == replayed + 1
    assert text_of(all_events) == TEXT
    beginnings = [data for name, data in all_events if begins(name, data)]
    assert len(beginnings) == (path != "/v1/completions"), "text completions have no beginning"
    if path == "/v1/responses":
        assert [data["sequence_number"] for _, data in all_events] == list(range(len(all_events)))


def begins(name: str | None, data: Any) -> bool:
    """Whether an event is the first of an answer in its API."""
    return name in ("message_start", "response.created") or '"role": "assistant", "content": ""' in json.dumps(data)


LATE = {
    "invalid": ({"prepare_s": 0.6, "invalid": True}, "the script says that this prompt is refused"),
    "engine": ({"first_token_s": 0.6, "raise_at": 1}, "Failed to generate response: the script says so"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("why", LATE)
def test_late_refusal_is_an_error_event_in_the_apis_form(server: Server, path: str, why: str) -> None:
    script, message = LATE[why]
    events = read(post(server, path, script))
    assert (None, "[DONE]") not in events
    names = [name for name, _ in events]
    invalid = why == "invalid"
    match path:
        case "/v1/messages":
            assert names[-1] == "error"
            error = events[-1][1]["error"]
            assert error["type"] == ("invalid_request_error" if invalid else "api_error")
            assert "message_stop" not in names
        case "/v1/responses":
            assert names[-2:] == ["error", "response.failed"]
            error = events[-2][1]
            assert events[-1][1]["response"]["status"] == "failed"
        case _:
            error = events[-1][1]["error"]
            assert error["type"] == ("invalid_request_error" if invalid else "server_error")
    assert error["message"] == message
    assert text_of(events) == ""


def test_late_refusal_raises_in_the_sdks(server: Server) -> None:
    text = json.dumps(LATE["invalid"][0])
    asked: Any = [{"role": "user", "content": text}]
    with sdk(server) as client, pytest.raises(openai.APIError, match="this prompt is refused"):
        list(client.chat.completions.create(model="any", messages=asked, stream=True))
    with (
        anthropic.Anthropic(base_url=server.root, api_key="any", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="this prompt is refused"),
    ):
        list(client.messages.create(model="any", max_tokens=9, messages=asked, stream=True))


def test_timeout_after_the_head_is_an_error_event(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--keepalive", 0.1, "--queue-timeout", 0.5)
    events = read(post(server, PATHS[0], {"first_token_s": 60}))
    assert events[-1][1]["error"]["code"] == "timeout"
    assert text_of(events) == ""
    assert server.stats()["timed_out"] == 1


def test_client_that_leaves_after_the_head_frees_its_place(server: Server) -> None:
    with RawClient(server, body_of(PATHS[0], {"first_token_s": 60})) as client:
        client.read_until(b'"delta":{}')
    server.wait_stats(active_requests=0, rows_used=0)


READING = {"tokens": 3, "first_token_s": 1.8, "prompt_tokens": 100}
BY_HEADER = {"headers": {"X-Include-Progress": "true"}}
BY_OPTION = {"stream_options": {"include_progress": True}}


def progress_in(events: Events) -> list[dict[str, Any]]:
    return [data["progress"] for _, data in events if isinstance(data, dict) and "progress" in data]


@pytest.mark.parametrize(
    ("path", "asked"),
    [(PATHS[0], BY_OPTION), (PATHS[1], BY_HEADER), (PATHS[2], BY_OPTION), (PATHS[3], BY_HEADER)],
    ids=["chat", "completions", "responses", "messages"],
)
def test_progress_is_told_to_who_asks(server: Server, path: str, asked: dict[str, Any]) -> None:
    events = read(post(server, path, READING, **asked))
    told = progress_in(events)
    assert {(one["state"], one["queue_position"], one["prompt_tokens"]) for one in told} == {("prefill", None, 100)}
    read_so_far = [one["processed_tokens"] for one in told]
    assert read_so_far == sorted(set(read_so_far)), "told though nothing has changed"
    assert len(read_so_far) >= 3
    assert read_so_far[-1] < 100
    assert text_of(events) == TEXT


def test_place_in_the_queue_is_told(server: Server) -> None:
    asked: dict[str, Any] = {"tokens": 3, "prompt_tokens": 5}
    assert server.chat("one that ends").status_code == 200
    with ExitStack() as open_ones:
        first = open_ones.enter_context(RawClient(server, chat_body({"first_token_s": 60})))
        server.wait_stats(running_requests=1)
        streams = []
        for waiting in (1, 2):
            streams.append(open_ones.enter_context(opened(server, PATHS[0], asked, **BY_OPTION)))
            server.wait_stats(waiting_requests=waiting)
        told = [progress_in([next(stream), next(stream)]) for stream in streams]
        first.leave()
        assert [text_of(list(stream)) for stream in streams] == [TEXT, TEXT]
    assert all(one.pop("eta_s") > 0 for [one] in told)
    assert told == [
        [{"state": "queued", "queue_position": place, "prompt_tokens": 5, "processed_tokens": 0}] for place in (1, 2)
    ]


def test_progress_is_not_told_unasked(server: Server) -> None:
    assert progress_in(read(post(server, PATHS[0], SLOW))) == []
