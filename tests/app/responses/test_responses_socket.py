"""`/v1/responses` over a WebSocket: OpenAI's SDK, and what a client may do to it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.responses.responses_server_event import ResponseWsError
from support.responses import EVENTS, strict
from support.running.clients import CONFIGURED, sdk
from support.running.servers import SCRIPTED, Server
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

PATH = "/v1/responses"
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


def socket(server: Server, key: str = CONFIGURED["api_key"], **more: Any) -> ClientConnection:
    headers = {"authorization": f"Bearer {key}", **more}
    return connect(f"ws{server.root.removeprefix('http')}{PATH}", additional_headers=headers, max_size=None)


@pytest.fixture
def opened(scripted_server: Server) -> Iterator[ClientConnection]:
    with socket(scripted_server) as connection:
        yield connection


def send(connection: ClientConnection, text: Any = "one two", **more: Any) -> None:
    connection.send(json.dumps({"type": "response.create", "model": "m", "input": text, **more}))


def turn(connection: ClientConnection) -> list[Any]:
    """The events up to the end of a response, as the SDK's types read them."""
    events: list[Any] = []
    while not events or events[-1].type not in ENDS:
        event = json.loads(connection.recv(timeout=30))
        events.append(strict(ResponseWsError if event["type"] == "error" else EVENTS[event["type"]], event))
    return events


def ask(connection: ClientConnection, text: Any = "one two", **more: Any) -> Any:
    """The last event of an answer."""
    send(connection, text, **more)
    return turn(connection)[-1]


def refused(connection: ClientConnection, text: Any = "one two", **more: Any) -> tuple[int | None, str | None]:
    last = ask(connection, text, **more)
    assert last.type == "error"
    return last.status, last.error.code


# The SDK's own way to connect is deprecated since websockets 17.1.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_sdk_creates_responses_and_goes_on(scripted_server: Server) -> None:
    with sdk(scripted_server) as client, client.responses.connect() as connection:
        previous = None
        for text in ("one", "two three"):
            more: Any = {"previous_response_id": previous} if previous else {}
            connection.response.create(model="m", input=text, store=False, **more)
            for event in connection:
                if event.type in ENDS:
                    break
            assert event.type == "response.incomplete"
            assert event.response.previous_response_id == previous
            previous = event.response.id
        assert event.response.output_text == "token token "


def test_events_are_those_of_the_stream_over_http(opened: ClientConnection, scripted_server: Server) -> None:
    send(opened, stream=False)
    events = turn(opened)
    over_http = scripted_server.post(PATH, {"model": "m", "input": "one two", "stream": True}).text
    assert [event.type for event in events] == [
        line.removeprefix("event: ") for line in over_http.splitlines() if line.startswith("event: ")
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "token token "


def test_what_is_stored_is_there_for_every_connection(opened: ClientConnection, scripted_server: Server) -> None:
    first = ask(opened, "one").response
    with socket(scripted_server) as another:
        second = ask(another, "two", previous_response_id=first.id).response
    with sdk(scripted_server) as client:
        items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.content[0].text for item in items] == ["one", "token ", "two"]  # type: ignore[union-attr]


def test_what_is_not_stored_is_there_for_its_connection_alone(
    opened: ClientConnection, scripted_server: Server
) -> None:
    first = ask(opened, "one", store=False).response
    with socket(scripted_server) as another:
        assert refused(another, previous_response_id=first.id) == (400, "previous_response_not_found")
        assert ask(another, "one", store=False).type == "response.incomplete"
    second = ask(opened, "two", previous_response_id=first.id, store=False)
    assert second.type == "response.incomplete"
    assert refused(opened, previous_response_id=first.id, store=False) == (400, "previous_response_not_found")


def test_conversation_that_failed_to_go_on_is_forgotten(opened: ClientConnection) -> None:
    first = ask(opened, "one", store=False).response
    output = {"type": "function_call_output", "call_id": "call_0", "output": "1"}
    assert refused(opened, [output], previous_response_id=first.id, store=False)[0] == 400
    assert refused(opened, previous_response_id=first.id, store=False) == (400, "previous_response_not_found")


def test_a_real_model_knows_what_was_said_on_the_connection(smollm2_server: Server) -> None:
    asked: dict[str, Any] = {"store": False, "temperature": 0, "max_output_tokens": 20}
    with socket(smollm2_server) as connection:
        first = ask(connection, "My name is Ada. Reply with OK.", **asked).response
        second = ask(connection, "What is my name?", previous_response_id=first.id, **asked).response
    said = [("user", "My name is Ada. Reply with OK."), ("assistant", first.output_text), ("user", "What is my name?")]
    with sdk(smollm2_server) as client:
        whole = client.responses.create(
            model="m",
            input=[{"role": role, "content": text} for role, text in said],
            **asked,  # type: ignore
        )
    assert second.output_text == whole.output_text
    assert second.usage.input_tokens == whole.usage.input_tokens  # type: ignore[union-attr]


def test_a_prompt_can_be_read_before_it_is_gone_on_from(smollm2_server: Server) -> None:
    with socket(smollm2_server) as connection:
        rules = [{"role": "system", "content": "Answer with one word, whatever you are asked. " * 20}]
        warm = ask(connection, rules, generate=False, store=False).response
        assert (warm.status, warm.output, warm.usage.output_tokens) == ("completed", [], 0)
        asked = ask(connection, "Paris?", previous_response_id=warm.id, store=False, max_output_tokens=2).response
        assert asked.usage.input_tokens_details.cached_tokens >= 0.9 * (warm.usage.input_tokens - 8)


def test_a_summary_begins_a_new_chain(smollm2_server: Server) -> None:
    said = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello, Ada."}]
    compacted = smollm2_server.post(f"{PATH}/compact", {"model": "m", "input": said, "max_output_tokens": 9}).json()
    assert [item["type"] for item in compacted["output"]] == ["message", "compaction"]
    asked = {"type": "message", "role": "user", "content": "Who am I?"}
    with socket(smollm2_server) as connection:
        answer = ask(connection, [*compacted["output"], asked], store=False, tools=[], max_output_tokens=2).response
        bare = ask(connection, [compacted["output"][0], asked], store=False, max_output_tokens=2).response
    assert (answer.status, answer.previous_response_id) == ("incomplete", None)
    assert answer.usage.input_tokens >= bare.usage.input_tokens + compacted["usage"]["output_tokens"]


def test_ignored_fields_are_told_before_the_first_event(opened: ClientConnection) -> None:
    send(opened, nonsense=1)
    told = json.loads(opened.recv(timeout=30))
    assert told == {"type": "mlx_server:notes", "ignored_fields": ["nonsense"], "dropped_messages": 0}
    assert turn(opened)[0].type == "response.created"


def test_events_name_the_stream_that_they_belong_to(opened: ClientConnection) -> None:
    send(opened, stream_id="a")
    send(opened, stream_id="b", temperature=99)
    for name in ("a", "b"):
        kind = ""
        while kind not in ENDS:
            event = json.loads(opened.recv(timeout=30))
            kind = event["type"]
            assert event["stream_id"] == name


@pytest.mark.parametrize("more", [{}, {"last-event-id": "1"}])
def test_handshake_names_no_answer(scripted_server: Server, more: dict[str, str]) -> None:
    """Its messages are requests of their own, none of which is the other sent again."""
    with socket(scripted_server, **{"idempotency-key": "socket", **more}) as connection:
        assert [ask(connection, text).type for text in ("one", "one two")] == ["response.incomplete"] * 2


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("{", None),
        ("[]", None),
        ('{"input": "a"}', "type"),
        ('{"type": "response.steer"}', "type"),
        ('{"type": "response.create", "stream_id": 1}', "stream_id"),
        ('{"type": "response.create", "input": 5}', "input"),
        (b'{"type": "response.create"}', "input"),
        ("[" * 20_000, None),
    ],
)
def test_bad_message_is_refused_and_the_connection_lives(
    opened: ClientConnection, message: str | bytes, param: str | None
) -> None:
    opened.send(message)
    [error] = turn(opened)
    assert (error.status, error.error.type, error.error.param) == (400, "invalid_request_error", param)
    opened.send('{"type": "response.processed", "response_id": "resp_1"}')
    assert ask(opened).type == "response.incomplete"


def test_failure_in_a_stream_is_an_error_and_a_failed_response(opened: ClientConnection) -> None:
    send(opened, json.dumps({"tokens": 9, "raise_at": 3}))
    error = turn(opened)[-1]
    assert (error.error.type, error.error.code, error.status) == ("server_error", "engine_error", None)
    assert turn(opened)[-1].type == "response.failed"
    assert refused(opened, json.dumps({"raise_at": 1})) == (500, "engine_error")


def test_a_client_that_leaves_gives_its_place_back(scripted_server: Server) -> None:
    with socket(scripted_server) as connection:
        send(connection, json.dumps({"tokens": 4000, "interval_s": 0.01}))
        send(connection, json.dumps({"tokens": 4000, "interval_s": 0.01}))
        while json.loads(connection.recv(timeout=30))["type"] != "response.output_text.delta":
            pass
        assert scripted_server.stats()["active_requests"] == 1
    scripted_server.wait_stats(active_requests=0, timeout_s=5)


def test_keys_and_limits_hold_for_every_message(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "right", "--rate-limit", "3/hour", "--max-body-bytes", 4096)
    with pytest.raises(InvalidStatus) as caught:
        socket(server, "wrong")
    assert caught.value.response.status_code == 401
    assert caught.value.response.body is not None
    assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_api_key"
    with socket(server, "right") as connection:
        for _ in range(2):
            assert ask(connection).type == "response.incomplete"
        limited = ask(connection)
        assert (limited.status, limited.error.code) == (429, "rate_limit_exceeded")
        assert int(limited.error.headers["Retry-After"]) > 0
        send(connection, "x" * 5000)
        with pytest.raises(ConnectionClosedError):
            turn(connection)


def test_pages_of_other_sites_may_not_connect(scripted_server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught:
        socket(scripted_server, origin="https://other.example")
    assert caught.value.response.status_code == 403
    with socket(scripted_server, origin=scripted_server.root) as connection:
        assert ask(connection).type == "response.incomplete"


def test_another_key_goes_on_from_nothing(launch: Callable[..., Server]) -> None:
    key = CONFIGURED["api_key"]
    server = launch(*SCRIPTED, "--api-key", key, "--api-key", "another", wait=False)
    server.http.headers["x-api-key"] = key
    server.wait_ready()
    with socket(server) as mine, socket(server, "another") as other:
        first = ask(mine, "one").response
        assert refused(other, previous_response_id=first.id) == (400, "previous_response_not_found")
    with sdk(server) as client, pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="a", previous_response_id="resp_0")
