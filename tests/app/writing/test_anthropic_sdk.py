"""Anthropic's Python SDK as the client, on real servers."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import anthropic
import httpx
import pytest
from anthropic import beta_tool
from anthropic.types import ModelInfo, TextBlock
from support.documents import pdf
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, serving

PATH = "/v1/messages"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
MODEL = "any-name/will-do"
GREEDY = {"extra_body": {"temperature": 0}}
MAX_BODY_BYTES = 1 << 16


@pytest.fixture
def connect() -> Iterator[Callable[..., anthropic.Anthropic]]:
    """Makes clients that never try again by themselves."""
    clients = []

    def make(server: Server, api_key: str = "not-needed") -> anthropic.Anthropic:
        clients.append(anthropic.Anthropic(base_url=server.root, api_key=api_key, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(smollm2_server: Server, connect: Callable[..., anthropic.Anthropic]) -> anthropic.Anthropic:
    return connect(smollm2_server)


def body_of(script: Any, **more: Any) -> dict[str, Any]:
    content = script if isinstance(script, str) else json.dumps(script)
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


@pytest.mark.model
def test_models_are_listed(client: anthropic.Anthropic, smollm2_server: Server) -> None:
    [listed] = [ModelInfo.model_validate(model.model_dump()) for model in client.models.list()]
    assert listed.display_name == listed.id
    assert ModelInfo.model_validate(client.models.retrieve(listed.id).model_dump() | {"type": "model"}).id == listed.id
    assert listed.max_input_tokens == smollm2_server.get("/v1/models").json()["data"][0]["context_length"]


@pytest.mark.model
def test_message_is_answered(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=20, messages=FRANCE, **GREEDY)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", MODEL)
    assert message.content == [TextBlock(type="text", text=ANSWER)]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == 37
    assert message.usage.output_tokens == 8


@pytest.mark.model
def test_stream_says_the_same_as_the_whole_answer(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model=MODEL, max_tokens=20, messages=FRANCE, **GREEDY)
    with client.messages.stream(model=MODEL, max_tokens=20, messages=FRANCE, **GREEDY) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert events[0].type == "message_start"
    start = events[0].message.usage
    prompt = start.input_tokens + (start.cache_read_input_tokens or 0)
    assert (prompt, start.output_tokens) == (37, 0)
    deltas = [event.text for event in events if event.type == "text"]
    assert len(deltas) > 3
    assert "".join(deltas) == ANSWER
    assert final.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert events[-1].type == "message_stop"


@pytest.mark.model
def test_stop_sequence_is_told(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 20, "messages": FRANCE, "stop_sequences": ["Rome", " is"]}
    whole = client.messages.create(**asked, **GREEDY)
    with client.messages.stream(**asked, **GREEDY) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [block.text for block in message.content] == ["The capital of France"]  # type: ignore[union-attr]
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " is")


@pytest.mark.model
def test_answer_that_is_cut_off_says_so(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=3, messages=FRANCE, **GREEDY)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


@pytest.mark.model
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_prompt_can_be_read_before_its_answer_is_wanted(client: anthropic.Anthropic, stream: bool) -> None:
    asked: Any = {"model": MODEL, "messages": FRANCE, "system": f"You know capitals. {stream} " * 20, **GREEDY}
    if stream:
        with client.messages.stream(max_tokens=0, **asked) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(max_tokens=0, **asked)
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)
    known = client.messages.create(max_tokens=20, **asked).usage.cache_read_input_tokens or 0
    assert known >= message.usage.input_tokens - 1 > 100


@pytest.mark.model
def test_prefill_is_gone_on_with(client: anthropic.Anthropic) -> None:
    prefill = [*FRANCE, {"role": "assistant", "content": "The capital of France"}]
    message = client.messages.create(model=MODEL, max_tokens=20, messages=prefill, **GREEDY)
    assert message.content == [TextBlock(type="text", text=" is Paris.")]


@pytest.mark.model
def test_system_is_part_of_the_prompt(client: anthropic.Anthropic) -> None:
    system = [{"type": "text", "text": "You speak only of cheese.", "cache_control": {"type": "ephemeral"}}]
    counted = client.messages.count_tokens(model=MODEL, messages=FRANCE, system=system).input_tokens
    assert counted != client.messages.count_tokens(model=MODEL, messages=FRANCE).input_tokens
    as_text = client.messages.count_tokens(model=MODEL, messages=FRANCE, system="You speak only of cheese.")
    assert counted == as_text.input_tokens


@pytest.mark.model
@pytest.mark.parametrize(
    "messages",
    [FRANCE, [*FRANCE, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "And of Spain?"}]],
    ids=["one turn", "three turns"],
)
def test_counted_tokens_are_those_of_the_usage(client: anthropic.Anthropic, messages: Any) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=messages).input_tokens
    usage = client.messages.create(model=MODEL, max_tokens=1, messages=messages).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.model
def test_model_that_does_not_reason_is_only_told_not_to(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 2000, "stop_sequences": ["Paris"], "messages": FRANCE}
    asked["extra_body"] = {"temperature": 0}  # it says so soon
    thinking = {"type": "enabled", "budget_tokens": 1024}
    raw = client.messages.with_raw_response.create(**asked, thinking=thinking)  # type: ignore[call-overload]
    assert raw.headers["X-Ignored-Fields"] == "thinking"
    for kind in ("disabled", "adaptive"):
        message = client.messages.create(**{**asked, "max_tokens": 1}, thinking={"type": kind})  # type: ignore[arg-type]
        assert message.stop_reason == "max_tokens"


@pytest.mark.model
def test_prompt_that_is_too_long_is_refused(client: anthropic.Anthropic) -> None:
    long = [{"role": "user", "content": "one two " * 8192}]
    with pytest.raises(anthropic.BadRequestError, match="maximum context length is 8192 tokens"):
        client.messages.create(model=MODEL, max_tokens=1, messages=long)
    # What is too long can still be counted: that is how a client finds out.
    assert client.messages.count_tokens(model=MODEL, messages=long).input_tokens > 16384


@pytest.mark.model
def test_documents_are_read(client: anthropic.Anthropic) -> None:
    data = base64.b64encode(pdf("Paris is the capital", "of France")).decode()
    source: Any = {"type": "base64", "media_type": "application/pdf", "data": data}
    question: Any = {"type": "text", "text": "What is Paris?"}
    given: Any = [{"role": "user", "content": [{"type": "document", "source": source, "title": "Cities"}, question]}]
    text = '<document title="Cities">\nParis is the capital\n\nof France\n</document>\nWhat is Paris?'
    same: Any = [{"role": "user", "content": text}]
    counted = client.messages.count_tokens(model=MODEL, messages=same).input_tokens
    assert client.messages.count_tokens(model=MODEL, messages=given).input_tokens == counted
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 10, **GREEDY}
    shown, told = (client.messages.create(**asked, messages=messages) for messages in (given, same))
    assert shown.content == told.content
    picture: Any = [{"role": "user", "content": [{"type": "document", "source": {**source, "data": "iVBORw0KGgoA"}}]}]
    with pytest.raises(anthropic.BadRequestError, match="neither a PDF nor a text"):
        client.messages.create(**asked, messages=picture)


WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.mark.model
def test_tool_that_must_be_called_is_called_and_its_result_read(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "How is the weather in Paris?"}],
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    }
    whole = client.messages.create(**asked, **GREEDY)
    with client.messages.stream(**asked, **GREEDY) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        [call] = [block for block in message.content if block.type == "tool_use"]
        assert call.id.startswith("toolu_")
        assert (call.name, call.input["city"] in ("Paris", "Rome")) == ("get_weather", True)
    counted = client.messages.count_tokens(**{k: v for k, v in asked.items() if k != "max_tokens"})
    assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    [call] = [block for block in whole.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "17 degrees"}
    turns = [*asked["messages"], whole.to_param(), {"role": "user", "content": [result]}]
    after = client.messages.create(model=MODEL, max_tokens=5, messages=turns, tools=[WEATHER], **GREEDY)
    assert after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0) > counted.input_tokens


@beta_tool
def weather_in(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    return f"17 degrees in {city}"


@pytest.mark.model
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_loop_of_the_sdk_loses_nothing_of_the_conversation(client: anthropic.Anthropic, stream: bool) -> None:
    question: Any = {"role": "user", "content": "How is the weather in Paris?"}
    choice = {"type": "tool", "name": "weather_in"}
    asked: dict[str, Any] = {"model": MODEL, "system": "Be brief.", "tool_choice": choice}
    limits: dict[str, Any] = {"max_tokens": 100, "max_iterations": 2, "stream": stream}
    runner = client.beta.messages.tool_runner(**asked, **limits, messages=[question], tools=[weather_in], **GREEDY)
    first, second = [turn.get_final_message() if stream else turn for turn in runner]
    [call] = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": weather_in.call(call.input)}
    turns = [question, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    counted = client.beta.messages.count_tokens(**asked, messages=turns, tools=[weather_in.to_dict()])
    assert second.usage.input_tokens + (second.usage.cache_read_input_tokens or 0) == counted.input_tokens


@pytest.mark.model
def test_conversation_is_gone_on_from_its_summary(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 20, "betas": ["compact-2026-09-04"], **GREEDY}
    asked["messages"] = [*FRANCE, {"role": "assistant", "content": ANSWER}]
    asked["compaction"] = {"type": "summarize"}
    whole = client.beta.messages.create(**asked)
    with client.beta.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert (message.stop_reason, message.usage.output_tokens > 0) == ("compaction", True)
    [block] = whole.content
    assert block.type == "compaction"
    assert block.content is not None
    assert [part.content for part in streamed.content if part.type == "compaction"] == [block.content]
    spain: Any = {"role": "user", "content": "And of Spain?"}
    turns: Any = [{"role": "assistant", "content": whole.content}, spain]
    after = client.beta.messages.create(model=MODEL, max_tokens=1, messages=turns)
    same: Any = [{"role": "user", "content": f"{block.content}\n\n{spain['content']}"}]
    counted = client.messages.count_tokens(model=MODEL, messages=same).input_tokens
    assert after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0) == counted


@pytest.mark.model
def test_answer_has_the_format_that_was_asked_for(client: anthropic.Anthropic) -> None:
    format_: Any = {"type": "json_schema", "schema": WEATHER["input_schema"]}
    message = client.messages.create(
        model=MODEL, max_tokens=50, messages=FRANCE, output_config={"format": format_}, **GREEDY
    )
    assert json.loads(message.content[0].text)["city"] in ("Paris", "Rome")  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def small_server() -> Iterator[Server]:
    """Takes keys and small bodies only, and one request at a time."""
    limits = ("--max-concurrency", 1, "--queue-size", 0, "--max-body-bytes", MAX_BODY_BYTES)
    with serving(*SCRIPTED, *limits, "--api-key", "key") as server:
        server.http.headers["x-api-key"] = "key"
        yield server


def check_error(error: anthropic.APIStatusError, status: int, kind: str, code: str | None) -> None:
    assert (error.status_code, error.type) == (status, kind)
    body: Any = error.body
    assert body.keys() == {"type", "error", "detail", "request_id"}
    assert body["type"] == "error"
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert body["detail"] == body["error"]["message"] == error.api_message
    assert error.request_id
    assert body["request_id"] == error.request_id == error.response.headers["x-request-id"]


def test_every_refusal_is_an_error_of_the_sdk(
    small_server: Server, connect: Callable[..., anthropic.Anthropic]
) -> None:
    client = connect(small_server, "key")
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "messages": FRANCE}
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(**{**asked, "max_tokens": -1})
    check_error(bad.value, 400, "invalid_request_error", None)
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError) as unsupported:
        client.messages.create(**asked, tools=[search], tool_choice={"type": "any"})
    check_error(unsupported.value, 400, "invalid_request_error", "unsupported_parameter")
    with pytest.raises(anthropic.AuthenticationError) as wrong:
        connect(small_server, "wrong").messages.create(**asked)
    check_error(wrong.value, 401, "authentication_error", "invalid_api_key")
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.get("/v1/messages/nowhere", cast_to=object)
    check_error(unknown.value, 404, "not_found_error", "not_found")
    with pytest.raises(anthropic.RequestTooLargeError) as large:
        client.messages.create(**{**asked, "system": "x" * MAX_BODY_BYTES})
    check_error(large.value, 413, "request_too_large", "request_too_large")
    with pytest.raises(anthropic.InternalServerError) as broken:
        client.messages.create(**{**asked, **body_of({"raise_at": 1})})
    check_error(broken.value, 500, "api_error", "engine_error")


def test_thread_is_refused_in_the_words_that_the_sdk_acts_upon(
    scripted_server: Server, connect: Callable[..., anthropic.Anthropic]
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        connect(scripted_server).beta.messages.create(model=MODEL, **body_of("one"), thread={"type": "create"})
    body: Any = caught.value.body
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def test_full_queue_is_a_rate_limit(small_server: Server, connect: Callable[..., anthropic.Anthropic]) -> None:
    running = body_of({"tokens": 1 << 20, "interval_s": 0.01}, max_tokens=1 << 20, stream=True)
    with small_server.http.stream("POST", small_server.root + PATH, json=running) as response:
        assert response.status_code == 200
        with pytest.raises(anthropic.RateLimitError) as caught:
            connect(small_server, "key").messages.create(model=MODEL, max_tokens=5, messages=FRANCE)
        check_error(caught.value, 429, "rate_limit_error", "queue_full")
        assert int(caught.value.response.headers["retry-after"]) >= 1


def check_shape(response: httpx.Response, status: int, kind: str) -> None:
    assert response.status_code == status
    body = response.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == response.headers["request-id"]


def test_refusals_before_any_route_have_the_shape_of_their_path(scripted_server: Server) -> None:
    check_shape(scripted_server.get(PATH), 405, "invalid_request_error")
    check_shape(scripted_server.post(f"{PATH}/count_tokens", b"{"), 400, "invalid_request_error")
    check_shape(scripted_server.post(f"{PATH}/nothing", {}), 404, "not_found_error")
    assert scripted_server.post(f"{PATH}s", {}).json().keys() == {"error", "detail"}
    assert "request-id" not in scripted_server.get("/health").headers


def test_unknown_fields_are_told_in_a_header(scripted_server: Server) -> None:
    for path, ignored in ((PATH, "wizardry, container"), (f"{PATH}/count_tokens", "wizardry, container, max_tokens")):
        headers = {"anthropic-beta": "sorcery-2099-01-01"}
        response = scripted_server.post(path, body_of("one two", wizardry=1, container="c"), headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["x-ignored-fields"] == ignored


def test_worker_that_dies_in_a_stream_ends_it_with_an_error(
    launch: Callable[..., Server], connect: Callable[..., anthropic.Anthropic]
) -> None:
    server = launch(*SCRIPTED)
    client = connect(server)
    stream = client.messages.create(model=MODEL, **body_of({"die_at": 3, "interval_s": 0.05}), stream=True)
    seen = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        seen.extend(event.type for event in stream)
    assert "message_start" in seen
    assert "message_stop" not in seen
    assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]
    assert caught.value.body["error"]["code"] == "worker_lost"  # type: ignore[index]


def test_events_have_names_and_no_mark_follows_the_last(scripted_server: Server) -> None:
    with RawClient(scripted_server, body_of("one two", stream=True), PATH) as client:
        answer = client.read_to_end().decode()
    names = [line.removeprefix("event: ").strip() for line in answer.splitlines() if line.startswith("event: ")]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "[DONE]" not in answer
