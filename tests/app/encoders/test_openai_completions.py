"""Text completions as OpenAI's SDK reads them."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai.types import Completion
from support.answers import HEAD, chosen, finished, streamed, text, whole

from mlx_server.app.encoders.openai_completions import CompletionEncoder
from mlx_server.schemas.internal.messages import Finished, Part
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.parse import parse

Events = Iterable[Part | Finished]


def _encoder(**fields: Any) -> CompletionEncoder:
    body = json.dumps({"prompt": "a", **fields}).encode()
    return CompletionEncoder(HEAD, parse(body, openai_completions.decoder, HARMLESS)[0])


def _whole(events: Events, **fields: Any) -> Completion:
    return Completion.model_validate(whole(_encoder(**fields), events), strict=True)


def _chunks(events: Events, **fields: Any) -> list[Completion]:
    """A chunk's finish_reason is null until the end, which the SDK's type does not know: it never validates one."""
    return [Completion.construct(**chunk) for chunk in streamed(_encoder(stream=True, **fields), events)]


def test_answer_says_who_made_it_and_what_it_cost() -> None:
    events = [text(" one"), text(" two"), finished(reason="length")]
    answer = _whole(events)
    *chunks, usage = _chunks(events, stream_options={"include_usage": True})
    for each in (answer, *chunks, usage):
        assert (each.id, each.object, each.created) == ("cmpl-1234", "text_completion", 1_700_000_000)
        assert (each.model, each.system_fingerprint) == ("org/model", "fp_ab")
    assert answer.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks) == " one two"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "length"]
    assert answer.choices[0].finish_reason == "length"
    assert [chunk.usage for chunk in chunks] == [None] * 3
    assert answer.usage == usage.usage
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (10, 6)


def test_choices_of_several_prompts_are_told_apart() -> None:
    events = [text("b", 1), text("d", 3), text("a"), text("c", 2), *(finished(index) for index in (3, 1, 0, 2))]
    answer = _whole(events, prompt=["x", "y"], n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    said = {chunk.choices[0].index: chunk.choices[0].text for chunk in _chunks(events, n=4) if chunk.choices[0].text}
    assert said == {0: "a", 1: "b", 2: "c", 3: "d"}


@pytest.mark.parametrize(
    ("n", "kept"), [(1, ["b", "f"]), (2, ["b", "c", "f", "d"]), (3, ["a", "b", "c", "d", "e", "f"])]
)
def test_best_of_keeps_the_likeliest_choices_of_each_prompt(n: int, kept: list[str]) -> None:
    logprobs = [-3.0, -1.0, -2.0, -2.0, -3.0, -1.0]
    events = [event for i, p in enumerate(logprobs) for event in (text("abcdef"[i], i), finished(i, mean_logprob=p))]
    answer = _whole(events, prompt=["x", "y"], n=n, best_of=3)
    assert [choice.text for choice in answer.choices] == kept
    assert [choice.index for choice in answer.choices] == list(range(2 * n))
    assert answer.usage.completion_tokens == 36, "those that were left out were computed too"


TOKENS = [
    text("Once", 0, chosen("On", None), chosen("ce", -0.5, ce=-0.5, ly=-2.0)),
    text("", 0, chosen("", -0.25)),
    text(" upon", 0, chosen(" upon", float("-inf"), a=-1.0)),
    finished(),
]


def test_logprobs_are_lists_with_an_entry_for_each_token() -> None:
    # A prompt's first token has null for both, which OpenAI's type does not know.
    assert whole(_encoder(logprobs=2, echo=True), TOKENS)["choices"][0]["logprobs"] == {
        "tokens": ["On", "ce", "", " upon"],
        "token_logprobs": [None, -0.5, -0.25, -9999.0],
        "top_logprobs": [None, {"ce": -0.5, "ly": -2.0}, {"": -0.25}, {"a": -1.0, " upon": -9999.0}],
        "text_offset": [0, 2, 4, 4],
    }
    report = _whole([text("ce", 0, chosen("ce", -0.5, ce=-0.5)), finished()], logprobs=1).choices[0].logprobs
    assert (report.tokens, report.token_logprobs, report.top_logprobs) == (["ce"], [-0.5], [{"ce": -0.5}])


def test_streamed_logprobs_add_up_to_the_whole_ones() -> None:
    interleaved = [TOKENS[0], text("other", 1, chosen("other")), *TOKENS[1:3], text("!", 1, chosen("!")), finished(0)]
    reports = [
        chunk["choices"][0]["logprobs"]
        for chunk in streamed(_encoder(stream=True, logprobs=2, n=2), [*interleaved, finished(1)])
        if chunk["choices"][0]["index"] == 0 and chunk["choices"][0]["logprobs"]
    ]
    expected = whole(_encoder(logprobs=2), TOKENS)["choices"][0]["logprobs"]
    assert {key: [entry for report in reports for entry in report[key]] for key in expected} == expected


def test_logprobs_of_none_are_the_chosen_tokens_only() -> None:
    said = [text("a", 0, chosen("a", -0.25)), text("b", 0, chosen("b", float("-inf")))]
    report = _whole([*said, finished()], logprobs=0).choices[0].logprobs
    assert report.top_logprobs == [{"a": -0.25}, {"b": -9999.0}]
    assert report.tokens == ["a", "b"]


def test_logprobs_are_not_told_unasked_though_best_of_needs_them() -> None:
    assert _whole(TOKENS).choices[0].logprobs is None
    assert _whole([*TOKENS, text("b", 1), finished(1)], best_of=2).choices[0].logprobs is None


def test_empty_text_is_no_chunk() -> None:
    chunks = _chunks([text(""), text("a"), finished()])
    assert [chunk.choices[0].text for chunk in chunks] == ["a", ""]


def test_extras_come_back_if_they_were_asked_for() -> None:
    asked: dict[str, Any] = {"conversation_id": "c", "performance_metrics": True}
    answer = whole(_encoder(**asked), TOKENS)
    assert answer["conversation_id"] == "c"
    assert answer["performance_metrics"]["tokens_per_second"] > 0
    plain = whole(_encoder(), TOKENS)
    assert plain.keys() == {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"}
