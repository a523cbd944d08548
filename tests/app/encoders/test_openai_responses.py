"""Every answer and every event of `/v1/responses` is what the SDK's types say, whatever a model does."""

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response
from support.responses import response, stream

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses import ResponsesEncoder
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.generation import Sampling, in_force
from mlx_server.schemas.internal.messages import (
    ChosenToken,
    Finished,
    FinishReason,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
)
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.parsing.parse import parse

HEAD = Head("1", 1000, "model")
TOKEN = TokenLogprob("Hi", b"Hi", -0.5)
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True, "description": "Adds."}


MODELS = Sampling(temperature=0.6)


def encoder(defaults: Sampling | None = MODELS, **given: Any) -> ResponsesEncoder:
    body = json.dumps({"input": "Hello", **given}).encode()
    turn = Turn(parse(body, openai_responses.decoder, HARMLESS)[0])
    return ResponsesEncoder(HEAD, turn, lambda asked: defaults and in_force(asked, defaults), store=True)


def finished(reason: FinishReason = "stop") -> Finished:
    return Finished(1, 0, reason, 10, 4, 7, 3)


EVERYTHING: list[Part | Finished] = [
    Reasoning(1, 0, "I think", 2),
    Reasoning(1, 0, " so.", 1),
    Text(1, 0, "Hi", 1, (ChosenToken(TOKEN, (TOKEN, TokenLogprob("Ho", b"Ho", -2.0))),)),
    Text(1, 0, " there", 1),
    Text(1, 0, "", 1),
    ToolCall(1, 0, 0, "", 1, "call_1", "add"),
    ToolCall(1, 0, 0, '{"a":', 1),
    ToolCall(1, 0, 0, "1}", 1),
    ToolCall(1, 0, 1, "{}", 1, "call_2", "add"),
    finished("tool_calls"),
]


def streamed(encoder: ResponsesEncoder, events: list[Part | Finished]) -> list[Any]:
    """One event at a time, as from a fast reader."""
    return stream(encoder.begin() + b"".join(encoder.events([event]) for event in events) + encoder.end())


def test_whole_answer_has_an_item_for_everything_in_its_order() -> None:
    answer = response(encoder(tools=[TOOL]).whole(EVERYTHING))
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call", "function_call"]
    thoughts, message, first, second = answer.output
    assert thoughts.content[0].text == "I think so."
    assert (thoughts.summary, thoughts.encrypted_content) == ([], None)
    assert answer.output_text == message.content[0].text == "Hi there"
    assert (first.call_id, first.name, first.arguments) == ("call_1", "add", '{"a":1}')
    assert (second.call_id, second.arguments) == ("call_2", "{}")
    assert {item.status for item in answer.output} == {answer.status} == {"completed"}
    assert len({item.id for item in answer.output}) == 4


def test_usage_counts_what_the_sequence_cost() -> None:
    usage = response(encoder().whole(EVERYTHING)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 7, 17)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == 3


def test_stream_tells_every_step_in_openais_order() -> None:
    events = streamed(encoder(), EVERYTHING)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_stream_and_whole_answer_end_the_same() -> None:
    def comparable(answer: Response) -> dict[str, Any]:
        data = answer.to_dict()
        for item in data["output"]:
            del item["id"]
        return {**data, "completed_at": 0}

    for given in ({}, {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}):
        last = streamed(encoder(**given), EVERYTHING)[-1].response
        assert comparable(last) == comparable(response(encoder(**given).whole(EVERYTHING)))


def test_deltas_add_up_to_what_is_done() -> None:
    events = streamed(encoder(), EVERYTHING)
    for kind in ("output_text", "reasoning_text", "function_call_arguments"):
        deltas: dict[str, str] = {}
        for event in events:
            if event.type == f"response.{kind}.delta":
                deltas[event.item_id] = deltas.get(event.item_id, "") + event.delta
        whole = {
            e.item_id: getattr(e, "text", None) or e.arguments for e in events if e.type == f"response.{kind}.done"
        }
        assert deltas == whole
        assert whole


def test_the_sdks_accumulator_follows_the_stream() -> None:
    state = ResponseStreamState(input_tools=[TOOL], text_format=openai.omit)
    for event in streamed(encoder(tools=[TOOL]), EVERYTHING):
        state.handle_event(event)
    assert state._completed_response is not None
    assert state._completed_response.output_text == "Hi there"


def test_answer_cut_off_is_incomplete_in_its_last_item_only() -> None:
    answer = response(encoder().whole([*EVERYTHING[:4], finished("length")]))
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [item.status for item in answer.output] == ["completed", "incomplete"]
    assert answer.completed_at is None
    assert streamed(encoder(), [*EVERYTHING[:4], finished("length")])[-1].type == "response.incomplete"


def test_answer_without_a_word_is_an_empty_message() -> None:
    events: list[Part | Finished] = [Text(1, 0, "", 1), finished()]
    answer = response(encoder().whole(events))
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == ""
    assert streamed(encoder(), events)[-1].response.output_text == ""


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    answer = response(encoder().whole([Text(1, 0, "a", 1), ToolCall(1, 0, 0, "{}", 1, "c", "f"), Text(1, 0, "b", 1)]))
    assert [item.type for item in answer.output] == ["message", "function_call", "message"]


def test_logprobs_stand_in_deltas_and_in_the_message() -> None:
    given = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    events = streamed(encoder(**given), EVERYTHING)
    [delta, _] = [event for event in events if event.type == "response.output_text.delta"]
    assert [(token.token, token.logprob) for token in delta.logprobs] == [("Hi", -0.5)]
    [done] = [event for event in events if event.type == "response.output_text.done"]
    assert [top.token for top in done.logprobs[0].top_logprobs] == ["Hi", "Ho"]
    content = events[-1].response.output[1].content[0]
    assert content.logprobs[0].bytes == list(b"Hi")
    assert events[-1].response.top_logprobs == 2


def test_sealed_thoughts_can_be_handed_back() -> None:
    [thoughts, _, *_] = response(encoder(include=["reasoning.encrypted_content"]).whole(EVERYTHING)).output
    item = {"type": "reasoning", "summary": [], "encrypted_content": thoughts.encrypted_content}
    body = json.dumps({"input": [item, {"role": "user", "content": "Go on."}]}).encode()
    [prompt] = Turn(parse(body, openai_responses.decoder, HARMLESS)[0]).to_generation(8).prompts
    assert prompt.messages[0].reasoning == "I think so."


def test_late_failure_is_an_event_and_a_failed_response() -> None:
    failing = encoder()
    begun = failing.begin() + failing.events(EVERYTHING[:4])
    events = stream(begun + failing.error(Answer(502, "server_error", "It broke.", None, "worker_lost")))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    error, failed = events[-2:]
    assert (error.type, error.code, error.message) == ("error", "worker_lost", "It broke.")
    assert failed.type == "response.failed"
    assert (failed.response.status, failed.response.error.code) == ("failed", "server_error")
    assert failed.response.error.message == "It broke."
    assert failed.response.output[-1].content[0].text == "Hi there"
    assert failed.response.output[-1].status == "incomplete"


def test_failure_of_a_bad_prompt_says_so() -> None:
    failing = encoder(background=True)
    failing.begin()
    [_, failed] = stream(failing.error(Answer(400, "invalid_request_error", "Too long.", "input")))
    assert (failed.response.error.code, failed.response.output) == ("invalid_prompt", [])


def test_background_response_waits_before_it_is_made() -> None:
    types = [event.type for event in streamed(encoder(background=True), EVERYTHING)]
    assert types[:4] == ["response.created", "response.queued", "response.in_progress", "response.output_item.added"]
    made = encoder(background=True)
    made.begin()
    assert (made.response.status, made.response.background) == ("queued", True)


def test_cancelled_response_keeps_what_there_was() -> None:
    cancelled = encoder(background=True)
    body = cancelled.begin() + cancelled.events(EVERYTHING[:4]) + cancelled.cancelled()
    assert stream(body)[-1].type == "response.output_item.done"
    assert (cancelled.response.status, len(cancelled.response.output)) == ("cancelled", 2)


ECHOED: list[dict[str, Any]] = [
    {"instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.25, "user": "me"},
    {"metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "k", "max_tool_calls": 3},
    {"parallel_tool_calls": False, "previous_response_id": "resp_0", "model": "model"},
    {"tools": [TOOL], "tool_choice": {"type": "function", "name": "add"}},
    {"tools": [TOOL], "tool_choice": "required"},
    {
        "tools": [TOOL],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]},
    },
    {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "medium"}},
    {"reasoning": {"effort": "low", "summary": "auto"}},
]


@pytest.mark.parametrize("given", ECHOED)
def test_response_says_what_was_asked_for(given: dict[str, Any]) -> None:
    shown = response(encoder(**given).whole([finished()])).to_dict()
    for name, value in given.items():
        assert holds(shown[name], value), (name, shown[name])


def holds(shown: Any, given: Any) -> bool:
    """The same, but for nulls that say that something was not given."""
    if isinstance(given, dict):
        return all(holds(shown[name], value) for name, value in given.items())
    if isinstance(given, list):
        return len(shown) == len(given) and all(map(holds, shown, given))
    return bool(shown == given)


@pytest.mark.parametrize(
    ("defaults", "given", "told"),
    [
        (Sampling(), {}, (1.0, 1.0, 0.0, 0.0)),
        (Sampling(temperature=0.6, top_p=0.95), {}, (0.6, 0.95, 0.0, 0.0)),
        (MODELS, {"temperature": 0, "top_p": 0.5, "presence_penalty": 1}, (0.0, 0.5, 1.0, 0.0)),
        (MODELS, {"temperature": None, "frequency_penalty": -1}, (0.6, 1.0, 0.0, -1.0)),
        (None, {"top_p": 0.5}, (None, 0.5, 0.0, 0.0)),
    ],
)
def test_answers_tell_the_numbers_in_force(
    defaults: Sampling | None, given: dict[str, Any], told: tuple[float | None, ...]
) -> None:
    created, *_, last = streamed(encoder(defaults, **given), [finished()])
    for answer in (created.response, last.response, response(encoder(defaults, **given).whole([finished()]))):
        penalties = answer.presence_penalty, answer.frequency_penalty
        assert (answer.temperature, answer.top_p, *penalties) == told
