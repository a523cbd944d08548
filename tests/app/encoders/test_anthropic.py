"""What Anthropic's clients read of an answer's events, parsed by their own types."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import DirectCaller, Message, RawMessageStreamEvent, TextBlock, ThinkingBlock, ToolUseBlock
from pydantic import TypeAdapter

from mlx_server.app.encoders.anthropic import MessagesEncoder, encoder_for
from mlx_server.app.encoders.head import Head
from mlx_server.app.http.errors import of_failure
from mlx_server.schemas.anthropic.requests import MessagesRequest, decoder
from mlx_server.schemas.internal.messages import Failed, FailureKind, Finished, Part, Reasoning, Started, Text, ToolCall
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.internal.summary import PREFACE

HEAD = Head("abc", 0, "some/model", request_id="request-1")
STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
STARTED = Started(1, 0, 9, 4)
DIRECT = DirectCaller(type="direct")


def given(**fields: Any) -> MessagesRequest:
    return decoder.decode(json.dumps({"max_tokens": 8, "messages": [{"role": "user", "content": "x"}], **fields}))


def end(reason: Any, completion: int = 8, stop: str | None = None, reasoning: int = 0) -> Finished:
    return Finished(1, 0, reason, 9, 4, completion, reasoning, stop)


def whole(*events: Part | Finished, **fields: Any) -> Message:
    return Message.model_validate_json(encoder_for(HEAD, given(**fields)).whole(list(events)))


def stream(*events: Part | Finished, started: Started | None = STARTED, **fields: Any) -> list[Any]:
    """Every event under its own name, as the SDK's types have it."""
    encoder = encoder_for(HEAD, given(**fields))
    sent = encoder.begin(started) + b"".join(encoder.events([event]) for event in events) + encoder.end()
    found = []
    for block in sent.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert name == f"event: {content['type']}"
        if content["type"] != "ping":
            found.append(STREAM_EVENT.validate_python(content))
    return found


def accumulated(*events: Part | Finished, **fields: Any) -> Message:
    """What the SDK makes of the stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in stream(*events, **fields):
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return Message.model_validate(snapshot.to_dict())


READ: dict[str, Callable[..., Message]] = {"whole": whole, "streamed": accumulated}
ways = pytest.mark.parametrize("read", READ.values(), ids=READ)

CALLS = [
    Reasoning(1, 0, "Hm", 1),
    Reasoning(1, 0, ", let me", 2),
    Text(1, 0, "", 1),
    Text(1, 0, "I look.", 1),
    ToolCall(1, 0, 0, "", 1, "call_0a", "weather"),
    ToolCall(1, 0, 0, '{"city":', 1),
    ToolCall(1, 0, 0, '"Paris"}', 1),
    ToolCall(1, 0, 1, "{}", 1, "call_0b", "time"),
]


@ways
def test_every_kind_of_part_is_a_block(read: Callable[..., Message]) -> None:
    message = read(*CALLS, end("tool_calls", reasoning=3))
    assert (message.id, message.model, message.role) == ("msg_abc", "some/model", "assistant")
    assert message.content == [
        ThinkingBlock(type="thinking", thinking="Hm, let me", signature="abc"),
        TextBlock(type="text", text="I look."),
        ToolUseBlock(type="tool_use", id="toolu_0a", name="weather", input={"city": "Paris"}, caller=DIRECT),
        ToolUseBlock(type="tool_use", id="toolu_0b", name="time", input={}, caller=DIRECT),
    ]
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)


@ways
def test_usage_counts_what_the_cache_had_beside_the_input(read: Callable[..., Message]) -> None:
    usage = read(Text(1, 0, "x", 8), end("stop", reasoning=3)).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 4, 0)
    assert usage.output_tokens == 8
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 3


@ways
@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        (end("stop"), "end_turn", None),
        (end("stop", stop="\n"), "stop_sequence", "\n"),
        (end("length"), "max_tokens", None),
        (end("length", completion=7), "model_context_window_exceeded", None),
        (end("tool_calls"), "tool_use", None),
    ],
)
def test_reason_of_the_end(read: Callable[..., Message], finished: Finished, reason: str, sequence: str | None) -> None:
    message = read(Text(1, 0, "x", 1), finished)
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


@ways
def test_answer_without_text_has_no_block(read: Callable[..., Message]) -> None:
    assert read(Text(1, 0, "", 1), end("stop")).content == []


@ways
def test_reasoning_can_be_left_out(read: Callable[..., Message]) -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    message = read(*CALLS[:4], end("stop"), thinking=thinking)
    assert message.content == [
        ThinkingBlock(type="thinking", thinking="", signature=seal("Hm, let me")),
        TextBlock(type="text", text="I look."),
    ]


def test_reasoning_is_one_block_whatever_was_counted_in_between() -> None:
    message = whole(Reasoning(1, 0, "a", 1), Text(1, 0, "", 1), Reasoning(1, 0, "b", 1), end("stop"))
    assert message.content == [ThinkingBlock(type="thinking", thinking="ab", signature="abc")]


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[1]", "Paris"])
def test_arguments_that_are_no_object_are_given_as_their_text(arguments: str) -> None:
    message = whole(ToolCall(1, 0, 0, arguments, 8, "call_1", "weather"), end("length"))
    assert message.content == [
        ToolUseBlock(type="tool_use", id="toolu_1", name="weather", input={"INVALID_JSON": arguments}, caller=DIRECT)
    ]
    assert message.stop_reason == "max_tokens"


def test_arguments_that_are_no_object_are_streamed_as_one() -> None:
    raw = ToolCall(1, 0, 0, "ls -a", 8, "call_1", "shell")
    cut = (ToolCall(1, 0, 1, "", 1, "call_2", "shell"), ToolCall(1, 0, 1, '{"a', 1), ToolCall(1, 0, 1, '": [1', 1))
    parts = [event for event in stream(raw, *cut, end("length")) if event.type == "content_block_delta"]
    assert [event.delta.partial_json for event in parts] == ['{"INVALID_JSON":"ls -a"}', '{"a', '": [1']


def test_blocks_of_a_stream_are_opened_and_closed_in_turn() -> None:
    events = stream(*CALLS, end("tool_calls"))
    shown = [(event.type, event.index) for event in events if hasattr(event, "index")]
    assert [kind for kind, index in shown if index == 0][-2:] == ["content_block_delta", "content_block_stop"]
    assert [index for kind, index in shown if kind == "content_block_start"] == [0, 1, 2, 3]
    assert [index for _, index in shown] == sorted(index for _, index in shown)
    assert [event.type for event in events[:1] + events[-2:]] == ["message_start", "message_delta", "message_stop"]


def test_stream_begins_with_what_the_prompt_took() -> None:
    start = stream(Text(1, 0, "x", 1), end("stop"))[0].message
    assert (start.content, start.stop_reason) == ([], None)
    assert (start.usage.input_tokens, start.usage.cache_read_input_tokens, start.usage.output_tokens) == (5, 4, 0)
    assert stream(end("stop"), started=None)[0].message.usage.input_tokens == 0


def test_late_failure_is_an_event_with_an_error() -> None:
    answer = of_failure(Failed(1, FailureKind.WORKER_LOST, "The worker died"))
    name, data, *rest = MessagesEncoder(HEAD, given()).error(answer).decode().split("\n")
    assert (name, rest) == ("event: error", ["", ""])
    body = json.loads(data.removeprefix("data: "))
    assert (body["type"], body["request_id"]) == ("error", "request-1")
    error = {"type": "api_error", "message": "The worker died", "param": None, "code": "worker_lost"}
    assert body["error"] == error


def test_what_nothing_is_said_of_is_null() -> None:
    answer = json.loads(MessagesEncoder(HEAD, given()).whole([Text(1, 0, "Hi", 1), end("stop")]))
    absent = {name: answer[name] for name in ("stop_sequence", "stop_details", "container")}
    used = {name: answer["usage"][name] for name in ("cache_creation", "inference_geo", "server_tool_use")}
    assert {*absent.values(), *used.values()} == {None}


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([Reasoning(1, 0, "Hm", 1), Text(1, 0, " They ", 1), Text(1, 0, "met.", 1)], f"{PREFACE}They met."),
        ([Reasoning(1, 0, "They met.", 1)], f"{PREFACE}They met."),
        ([Text(1, 0, " ", 1)], None),
    ],
    ids=["said", "thought", "nothing"],
)
def test_compaction_is_one_block_that_comes_whole(parts: list[Part], content: str | None) -> None:
    asked = given(compaction={"type": "summarize"})
    answer = json.loads(encoder_for(HEAD, asked).whole([*parts, end("length", 2)]))
    block = {"type": "compaction", "content": content, "encrypted_content": None}
    assert (answer["content"], answer["stop_reason"]) == ([block], "compaction")
    encoder = encoder_for(HEAD, asked)
    begun = encoder.begin(STARTED) + b"".join(encoder.events([event]) for event in [*parts, end("length", 2)])
    assert begun == encoder.begin(STARTED)
    sent = [json.loads(line[6:]) for line in encoder.end().decode().splitlines() if line.startswith("data: ")]
    start, delta, stop, last, done = sent
    assert start["content_block"] == {**block, "content": None}
    assert delta["delta"] == {**block, "type": "compaction_delta"}
    assert (stop["type"], last["delta"]["stop_reason"]) == ("content_block_stop", "compaction")
    assert (last["usage"], done["type"]) == (answer["usage"], "message_stop")


@ways
@pytest.mark.parametrize("reason", ["length", "stop"])
def test_prompt_that_is_only_read_has_an_answer_without_content(read: Callable[..., Message], reason: str) -> None:
    message = read(Reasoning(1, 0, "Hm", 1), Text(1, 0, "x", 1), end(reason, 1, stop="x", reasoning=1), max_tokens=0)
    assert (message.content, message.stop_reason, message.stop_sequence) == ([], "max_tokens", None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (5, 4, 0)
