"""Chat completions as OpenAI's SDK reads them: whole, and streams put together as clients do."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageCustomToolCall,
    ChatCompletionMessageFunctionToolCall,
)
from support.answers import HEAD, call, chosen, finished, streamed, text, thought, whole

from mlx_server.app.encoders.openai_chat import ChatEncoder
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Part, PromptReport, Reasoning, Started, Text, ToolCall
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.parse import parse

Events = Iterable[Part | Finished]
F = {"type": "function", "function": {"name": "f"}}


def _encoder(**fields: Any) -> ChatEncoder:
    body = json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode()
    return ChatEncoder(HEAD, parse(body, openai_chat.decoder, HARMLESS)[0])


def _whole(events: Events, **fields: Any) -> ChatCompletion:
    return ChatCompletion.model_validate(whole(_encoder(**fields), events), strict=True)


def _chunks(events: Events, **fields: Any) -> list[ChatCompletionChunk]:
    return [
        ChatCompletionChunk.model_validate(chunk, strict=True)
        for chunk in streamed(_encoder(stream=True, **fields), events)
    ]


def _accumulated(chunks: Iterable[ChatCompletionChunk]) -> ChatCompletion:
    """What the SDK's own helper makes of a stream."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.get_final_completion()


def _both(events: Events, **fields: Any) -> list[ChatCompletion]:
    events = list(events)
    return [_whole(events, **fields), _accumulated(_chunks(events, **fields))]


def test_text_says_who_made_it() -> None:
    for answer in _both([text("one "), text("two"), finished()]):
        assert (answer.id, answer.created, answer.model) == ("chatcmpl-1234", 1_700_000_000, "org/model")
        assert answer.system_fingerprint == "fp_ab"
        [choice] = answer.choices
        assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
        assert (choice.message.role, choice.message.content) == ("assistant", "one two")
        assert choice.message.tool_calls is None


def test_an_empty_answer_is_an_empty_text() -> None:
    answer = whole(_encoder(), [finished(reason="length")])
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "", "refusal": None}
    chunks = streamed(_encoder(stream=True), [text(""), finished(reason="length")])
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"role": "assistant", "content": ""}, {}]


def test_usage_counts_all_choices_and_the_prompt_once() -> None:
    events = [text("a"), finished(0), text("b", 1), finished(1)]
    answer = _whole(events, n=2)
    chunks = _chunks(events, n=2, stream_options={"include_usage": True})
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    for usage in (answer.usage, chunks[-1].usage):
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 12, 22)
        assert usage.prompt_tokens_details.cached_tokens == 4
        assert usage.completion_tokens_details.reasoning_tokens == 4


def test_continuous_usage_counts_what_came_until_each_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = [thought("so "), text("a"), text("b", 1), call("{}", 0, "f", 1), finished(0), finished(1)]
    encoder = _encoder(stream=True, n=2, stream_options=options)
    sent = encoder.begin(Started(1, 0, 10, 4)) + encoder.events(events) + encoder.end()
    chunks = [json.loads(line.removeprefix("data: ")) for line in sent.decode().split("\n\n")[:-2]]
    counts = [(chunk["usage"]["completion_tokens"], chunk["usage"]["total_tokens"]) for chunk in chunks]
    assert counts == [(0, 10), (0, 10), (1, 11), (2, 12), (3, 13), (4, 14), (8, 18), (12, 22), (12, 22)]
    details = [chunk["usage"]["completion_tokens_details"]["reasoning_tokens"] for chunk in chunks]
    assert details == [0, 0, 1, 1, 1, 1, 2, 4, 4]
    assert {chunk["usage"]["prompt_tokens_details"]["cached_tokens"] for chunk in chunks} == {4}
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("options", [{"continuous_usage_stats": True}, {"continuous_usage_stats": False}])
def test_continuous_usage_needs_usage(options: dict[str, bool]) -> None:
    chunks = streamed(_encoder(stream=True, stream_options=options), [text("a"), finished()])
    assert all("usage" not in chunk for chunk in chunks)


def test_choices_come_interleaved_and_are_told_apart() -> None:
    events = [text("b", 1), text("a"), text("c", 2), finished(2), text("A"), finished(0), text("B", 1)]
    for answer in _both([*events, finished(1)], n=3):
        said = [(choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices]
        assert sorted(said) == [(0, "aA", "stop"), (1, "bB", "stop"), (2, "c", "stop")]
    chunks = _chunks([*events, finished(1)], n=3)
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant"] * 3
    assert sorted(chunk.choices[0].index for chunk in chunks[:3]) == [0, 1, 2]


def test_reasoning_has_two_names_and_is_no_content() -> None:
    events = [thought("let me "), thought("see"), thought(""), text("4"), finished()]
    message = _whole(events).choices[0].message
    assert (message.content, message.reasoning_content, message.reasoning) == ("4", "let me see", "let me see")
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in _chunks(events)]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "let me ", "reasoning": "let me "},
        {"reasoning_content": "see", "reasoning": "see"},
        {"content": "4"},
        {},
    ]
    assert "reasoning" not in whole(_encoder(), [text("4"), finished()])["choices"][0]["message"]


CALLS = [
    text("Let me look."),
    call("", 0, "f"),
    call('{"a":', 0),
    call("1}", 0),
    call('{"b"', 1, "g"),
    call(":2}", 1),
    finished(reason="tool_calls"),
]


def test_calls_are_accumulated_by_their_index() -> None:
    for answer in _both(CALLS, tools=[F]):
        [choice] = answer.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
        calls = [(c.id, c.type, c.function.name, c.function.arguments) for c in choice.message.tool_calls]
        assert calls == [("call_f", "function", "f", '{"a":1}'), ("call_g", "function", "g", '{"b":2}')]


def test_only_the_first_part_of_a_call_has_its_id_and_name() -> None:
    chunks = streamed(_encoder(stream=True, tools=[F]), CALLS)
    parts = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert parts == [
        {"index": 0, "id": "call_f", "type": "function", "function": {"arguments": "", "name": "f"}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
        {"index": 1, "id": "call_g", "type": "function", "function": {"arguments": '{"b"', "name": "g"}},
        {"index": 1, "function": {"arguments": ":2}"}},
    ]


def test_a_call_alone_has_null_content() -> None:
    message = _whole([call("{}", 0, "f"), finished(reason="tool_calls")], tools=[F]).choices[0].message
    assert message.content is None
    assert len(message.tool_calls) == 1


def test_calls_of_several_choices_stay_apart() -> None:
    events = [call("{", 0, "f", 0), call("[", 0, "g", 1), call("}", 0, None, 0), call("]", 0, None, 1)]
    for answer in _both([*events, finished(0, "tool_calls"), finished(1, "tool_calls")], n=2, tools=[F]):
        calls = {choice.index: choice.message.tool_calls[0].function for choice in answer.choices}
        assert {index: (f.name, f.arguments) for index, f in calls.items()} == {0: ("f", "{}"), 1: ("g", "[]")}


def test_deprecated_functions_are_answered_in_their_words() -> None:
    events = [call("", 0, "f"), call("{}", 0), finished(reason="tool_calls")]
    answer = _whole(events, functions=[{"name": "f"}])
    assert answer.choices[0].finish_reason == "function_call"
    assert answer.choices[0].message.tool_calls is None
    called = answer.choices[0].message.function_call
    assert (called.name, called.arguments) == ("f", "{}")
    _, first, second, end = _chunks(events, functions=[{"name": "f"}])
    assert first.choices[0].delta.function_call.name == "f"
    assert first.choices[0].delta.function_call.arguments + second.choices[0].delta.function_call.arguments == "{}"
    assert second.choices[0].delta.function_call.name is None
    assert end.choices[0].finish_reason == "function_call"


TOKENS = [
    text("Größe", 0, chosen("Gr", -0.25, Gr=-0.25, x=-3.0), chosen("öße", float("-inf"), öße=-1.0)),
    text("", 0, chosen("<|end|>", -0.5)),
    finished(),
]


def test_logprobs_name_each_token_its_bytes_and_the_others() -> None:
    for answer in _both(TOKENS, logprobs=True, top_logprobs=2):
        first, second, last = answer.choices[0].logprobs.content
        assert (first.token, first.logprob, bytes(first.bytes).decode()) == ("Gr", -0.25, "Gr")
        assert [(top.token, top.logprob, top.bytes) for top in first.top_logprobs] == [
            ("Gr", -0.25, list(b"Gr")),
            ("x", -3.0, list(b"x")),
        ]
        assert (second.logprob, bytes(second.bytes).decode()) == (-9999.0, "öße")
        assert (last.token, last.top_logprobs) == ("<|end|>", [])
        assert answer.choices[0].logprobs.refusal is None


def test_logprobs_are_not_told_unasked() -> None:
    for answer in _both(TOKENS):
        assert answer.choices[0].logprobs is None


def test_logprobs_of_an_empty_answer_are_an_empty_list() -> None:
    assert whole(_encoder(logprobs=True), [finished()])["choices"][0]["logprobs"] == {"content": [], "refusal": None}


def test_conversation_id_comes_back_if_there_was_one() -> None:
    events = [text("a"), finished()]
    for given, expected in (({"conversation_id": "c-1"}, "c-1"), ({}, None), ({"conversation_id": None}, None)):
        chunks = streamed(_encoder(stream=True, **given), events)
        for answer in (whole(_encoder(**given), events), *chunks):
            assert answer.get("conversation_id") == expected
            assert ("conversation_id" in answer) is bool(expected)


def test_performance_is_told_with_the_usage_if_it_was_asked_for() -> None:
    events = [text("a"), finished()]
    asked = {"performance_metrics": True}
    chunks = streamed(_encoder(stream=True, stream_options={"include_usage": True}, **asked), events)
    assert all("performance_metrics" not in chunk for chunk in chunks[:-1])
    for answer in (whole(_encoder(**asked), events), chunks[-1]):
        metrics = answer["performance_metrics"]
        assert metrics.keys() == {"inference_time_ms", "tokens_per_second"}
        assert 0 < metrics["inference_time_ms"] < 10_000
        assert metrics["tokens_per_second"] > 0
    assert "performance_metrics" not in whole(_encoder(performance_metrics=False), events)


def test_a_failure_in_a_stream_is_an_event_with_the_error() -> None:
    sent = _encoder(stream=True).error(Answer(502, "server_error", "The worker died.", None, "worker_lost"))
    assert json.loads(sent.removeprefix(b"data: ")) == {
        "error": {"message": "The worker died.", "type": "server_error", "param": None, "code": "worker_lost"},
        "detail": "The worker died.",
    }
    assert sent.endswith(b"}\n\n")


@pytest.mark.parametrize(
    "said", ["\u2028\r\n\n", "\x00\x1f", "🙂\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
)
def test_any_text_is_one_line_of_an_event(said: str) -> None:
    chunks = streamed(_encoder(stream=True), [text(said), finished()])
    assert chunks[1]["choices"][0]["delta"] == {"content": said}


CUSTOM = {"type": "custom", "custom": {"name": "edit"}}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (['{"in', 'put": "a\\n', '\\"b"}'], ["a\n", '"b']),
        (['{"input": ""}'], []),
        (['{"why": 1, "input": "a"}'], ["a"]),
        (["no ", "JSON"], ["no JSON"]),
        (['{"input": "a\\'], ["a"]),
    ],
    ids=str,
)
def test_call_of_a_custom_tool_is_its_text(written: list[str], said: list[str]) -> None:
    events = [call("", 0, "edit"), *map(call, written), call("{}", 1, "f"), finished(reason="tool_calls")]
    message = ChatCompletion.model_validate(whole(_encoder(tools=[CUSTOM, F]), events), strict=True).choices[0].message
    custom, function = message.tool_calls or ()
    assert isinstance(custom, ChatCompletionMessageCustomToolCall)
    assert (custom.id, custom.custom.name, custom.custom.input) == ("call_edit", "edit", "".join(said))
    assert isinstance(function, ChatCompletionMessageFunctionToolCall)
    deltas = [
        delta
        for chunk in streamed(_encoder(stream=True, tools=[CUSTOM, F]), events)
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    first, *rest = [delta for delta in deltas if delta["index"] == 0]
    assert first == {"index": 0, "id": "call_edit", "type": "custom", "custom": {"name": "edit", "input": ""}}
    assert rest == [{"index": 0, "custom": {"input": text}} for text in said]


def test_sdks_helper_puts_the_text_for_a_custom_tool_together() -> None:
    events = [call("", 0, "edit"), call('{"input": "a'), call('b"}'), finished(reason="tool_calls")]
    state = ChatCompletionStreamState()
    for chunk in streamed(_encoder(stream=True, tools=[CUSTOM]), events):
        state.handle_chunk(ChatCompletionChunk.construct(**chunk))
    # Its end would read the call by a type that streams don't have yet.
    [made] = state.current_completion_snapshot.choices[0].message.tool_calls or ()
    assert made.to_dict()["custom"] == {"name": "edit", "input": "ab"}


def test_every_part_has_the_ids_of_its_tokens() -> None:
    events = [
        Text(1, 0, "", 0, prompt=PromptReport((1, 2))),
        Reasoning(1, 0, "hm", 2, (10, 11)),
        ToolCall(1, 0, 0, "{}", 2, "call_f", "f", (12, 13)),
        Text(1, 0, "", 1, ids=(14,)),
        finished(reason="tool_calls"),
    ]
    [role, *chunks] = streamed(_encoder(stream=True, return_token_ids=True), events)
    assert (role["prompt_token_ids"], role["choices"][0]["delta"]["role"]) == ([1, 2], "assistant")
    assert [chunk["choices"][0]["token_ids"] for chunk in chunks] == [[10, 11], [12, 13], [14], []]
    assert not any("prompt_token_ids" in chunk for chunk in chunks)
    answer = whole(_encoder(return_token_ids=True), events)
    assert (answer["prompt_token_ids"], answer["choices"][0]["token_ids"]) == ([1, 2], [10, 11, 12, 13, 14])
