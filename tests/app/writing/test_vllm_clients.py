"""What programs written for vLLM's server send, and count on in its answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from support.running.servers import Server

pytestmark = pytest.mark.model

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PROMPT = "The capital of France is"
MESSAGES = [{"role": "user", "content": "Say it with emojis: I love coding 🚀"}]
ASKED: dict[str, dict[str, Any]] = {CHAT: {"messages": MESSAGES}, TEXT: {"prompt": PROMPT}}
BOTH = pytest.mark.parametrize("path", [CHAT, TEXT])


def ask(server: Server, path: str, **more: Any) -> dict[str, Any]:
    answer = server.post(path, {**ASKED[path], "max_tokens": 6, "temperature": 0, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def chunks_of(server: Server, path: str, **more: Any) -> list[dict[str, Any]]:
    answer = server.post(path, {**ASKED[path], "max_tokens": 6, "temperature": 0, "stream": True, **more})
    assert answer.status_code == 200, answer.text
    *events, done = (line.removeprefix("data: ") for line in answer.text.splitlines() if line)
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


def tokens_of(server: Server, **given: Any) -> list[int]:
    return list(server.post("/tokenize", given).json()["tokens"])


def text_of(server: Server, ids: list[int]) -> str:
    return str(server.post("/detokenize", {"tokens": ids}).json()["prompt"])


def prompt_of(path: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Where an API tells of the prompt."""
    return dict(answer if path == CHAT else answer["choices"][0])


def said(choice: dict[str, Any]) -> str:
    """What a choice, or its part of a chunk, says."""
    return str(choice["text"] if "text" in choice else choice.get("message", choice.get("delta")).get("content") or "")


@BOTH
def test_token_ids_are_those_of_the_prompt_and_the_answer(smollm2_server: Server, path: str) -> None:
    asked = ASKED[path]
    answer = ask(smollm2_server, path, return_token_ids=True)
    [choice] = answer["choices"]
    assert prompt_of(path, answer)["prompt_token_ids"] == tokens_of(smollm2_server, **asked)
    assert text_of(smollm2_server, choice["token_ids"]) == said(choice)
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"]


@BOTH
def test_the_token_that_ends_an_answer_is_told_too(smollm2_server: Server, path: str) -> None:
    ids = ask(smollm2_server, path, return_token_ids=True)["choices"][0]["token_ids"]
    answer = ask(smollm2_server, path, return_token_ids=True, stop_token_ids=[ids[3]])
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["token_ids"] == ids[: ids.index(ids[3]) + 1]
    assert text_of(smollm2_server, choice["token_ids"][:-1]) == said(choice)
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"]


@BOTH
def test_nothing_is_told_of_tokens_unless_it_was_asked_for(smollm2_server: Server, path: str) -> None:
    more = {"return_token_ids": False, "return_tokens_as_token_ids": None, "prompt_logprobs": None}
    whole, chunks = ask(smollm2_server, path, **more), chunks_of(smollm2_server, path, **more)
    for told in (whole, *chunks):
        assert not {"prompt_token_ids", "prompt_logprobs"} & {*told, *told["choices"][0]}
        assert "token_ids" not in told["choices"][0]


@BOTH
def test_streamed_token_ids_are_those_of_the_whole_answer(smollm2_server: Server, path: str) -> None:
    chunks = chunks_of(smollm2_server, path, return_token_ids=True)
    whole = ask(smollm2_server, path, return_token_ids=True)
    told = [chunk["choices"][0].get("token_ids", []) for chunk in chunks]
    prompts = [prompt_of(path, chunk).get("prompt_token_ids") for chunk in chunks]
    assert [id_ for ids in told for id_ in ids] == whole["choices"][0]["token_ids"]
    assert prompts == [prompt_of(path, whole)["prompt_token_ids"], *[None] * (len(chunks) - 1)]
    assert "".join(said(chunk["choices"][0]) for chunk in chunks) == said(whole["choices"][0])


def test_every_choice_of_every_prompt_has_its_own_ids(smollm2_server: Server) -> None:
    prompts = ["One, two", "A robot may not injure"]
    asked: dict[str, Any] = {"prompt": prompts, "n": 2, "temperature": 1, "seed": 7, "return_token_ids": True}
    whole = ask(smollm2_server, TEXT, **asked)["choices"]
    known = [tokens_of(smollm2_server, prompt=prompt) for prompt in prompts for _ in range(2)]
    assert [choice["prompt_token_ids"] for choice in whole] == known
    streamed: list[list[int]] = [[], [], [], []]
    first: dict[int, list[int]] = {}
    for chunk in chunks_of(smollm2_server, TEXT, **asked):
        [choice] = chunk["choices"]
        first.setdefault(choice["index"], choice.get("prompt_token_ids"))
        streamed[choice["index"]] += choice["token_ids"]
    assert [first[index] for index in range(4)] == known
    assert streamed == [choice["token_ids"] for choice in whole]


@pytest.mark.parametrize("stream", [False, True])
def test_reported_tokens_are_named_by_their_ids(smollm2_server: Server, stream: bool) -> None:
    asked: dict[str, Any] = {"return_token_ids": True, "return_tokens_as_token_ids": True}
    ways: dict[str, Any] = {CHAT: {"logprobs": True, "top_logprobs": 2}, TEXT: {"logprobs": 2}}
    for path, more in ways.items():
        if stream:
            choices = [chunk["choices"][0] for chunk in chunks_of(smollm2_server, path, **asked, **more)]
        else:
            choices = ask(smollm2_server, path, **asked, **more)["choices"]
        reports = [choice["logprobs"] for choice in choices if choice["logprobs"]]
        tokens = [
            token
            for report in reports
            for token in (report["tokens"] if path == TEXT else [entry["token"] for entry in report["content"]])
        ]
        others = [
            name
            for report in reports
            for name in (
                [name for top in report["top_logprobs"] for name in top]
                if path == TEXT
                else [top["token"] for entry in report["content"] for top in entry["top_logprobs"]]
            )
        ]
        ids = [id_ for choice in choices for id_ in choice.get("token_ids", [])]
        assert tokens == [f"token_id:{id_}" for id_ in ids]
        assert len(others) == 2 * len(ids)
        assert all(name.startswith("token_id:") for name in others)


TOOL = {
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"enum": ["a", "b"]}}, "required": ["at"]},
}
WAYS_TO_END: list[dict[str, Any]] = [
    {"max_tokens": 5},
    {"stop": "a", "max_tokens": 40},
    {"stop_token_ids": [28], "logit_bias": {"28": 100}},
    {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required", "max_tokens": 60},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", WAYS_TO_END, ids=["length", "stop", "token", "call"])
def test_each_id_has_its_probability(smollm2_server: Server, ending: dict[str, Any], stream: bool) -> None:
    how: dict[str, Any] = {"return_token_ids": True, "return_tokens_as_token_ids": True, **ending}
    ways: dict[str, Any] = {CHAT: {"logprobs": True}, TEXT: {"logprobs": 0}}
    for path in (CHAT,) if "tools" in ending else (CHAT, TEXT):
        asked = {**how, **ways[path], "parallel_tool_calls": False} if "tools" in ending else {**how, **ways[path]}
        if stream:
            choices = [chunk["choices"][0] for chunk in chunks_of(smollm2_server, path, **asked)]
        else:
            choices = ask(smollm2_server, path, **asked)["choices"]
        reports = [choice["logprobs"] for choice in choices if choice["logprobs"]]
        names = [
            report["tokens"] if path == TEXT else [one["token"] for one in report["content"]] for report in reports
        ]
        ids = [id_ for choice in choices for id_ in choice.get("token_ids", [])]
        assert [name for some in names for name in some] == [f"token_id:{id_}" for id_ in ids]
        assert ids


def test_names_that_nothing_is_called_by_are_told_as_ignored(smollm2_server: Server) -> None:
    body = {"messages": MESSAGES, "max_tokens": 1, "return_tokens_as_token_ids": True}
    answer = smollm2_server.post(CHAT, body)
    assert answer.headers["X-Ignored-Fields"] == "return_tokens_as_token_ids"
    assert "X-Ignored-Fields" not in smollm2_server.post(CHAT, {**body, "logprobs": True}).headers


@BOTH
@pytest.mark.parametrize("most", [0, 2])
def test_prompt_tokens_have_probabilities_and_ranks(smollm2_server: Server, path: str, most: int) -> None:
    answer = ask(smollm2_server, path, prompt_logprobs=most, return_token_ids=True)
    prompt = prompt_of(path, answer)
    first, *rest = prompt["prompt_logprobs"]
    ids = prompt["prompt_token_ids"]
    assert first is None
    assert len(rest) == len(ids) - 1
    for id_, place in zip(ids[1:], rest, strict=True):
        own = place[str(id_)]
        assert len(place) == max(1, most) + (own["rank"] > max(1, most) and most > 0)
        assert {entry["rank"] for entry in place.values()} == {*range(1, most + 1), own["rank"]}
        ranked = sorted(place.values(), key=lambda entry: entry["rank"])
        assert ranked == sorted(ranked, key=lambda entry: -entry["logprob"])
        assert sum(math.exp(entry["logprob"]) for entry in place.values()) <= 1.0001
    if path == TEXT:
        decoded = [place[str(id_)]["decoded_token"] for id_, place in zip(ids[1:], rest, strict=True)]
        assert PROMPT.endswith("".join(decoded))


def test_prompt_probabilities_are_those_of_an_echo(smollm2_server: Server) -> None:
    echoed = ask(smollm2_server, TEXT, echo=True, logprobs=1, prompt_logprobs=2, return_token_ids=True)
    [choice] = echoed["choices"]
    [plain] = ask(smollm2_server, TEXT, prompt_logprobs=2)["choices"]
    ids = choice["prompt_token_ids"]
    own = [place[str(id_)]["logprob"] for id_, place in zip(ids[1:], choice["prompt_logprobs"][1:], strict=True)]
    assert own == choice["logprobs"]["token_logprobs"][1 : len(ids)]
    ranks = [place[str(id_)]["rank"] for id_, place in zip(ids[1:], choice["prompt_logprobs"][1:], strict=True)]
    tops = [len(top) for top in choice["logprobs"]["top_logprobs"][1:]]
    assert tops == [*(1 + (rank > 1) for rank in ranks), *[1] * 6], "the chosen one is among them"
    assert choice["prompt_logprobs"] == plain["prompt_logprobs"]
    assert choice["text"] == PROMPT + plain["text"]


def test_every_choice_tells_of_its_prompt(smollm2_server: Server) -> None:
    asked = {"prompt": ["My name is", "A robot may"], "n": 2, "best_of": 3, "prompt_logprobs": 0, "temperature": 1}
    choices = ask(smollm2_server, TEXT, **asked)["choices"]
    scored = [choice["prompt_logprobs"] for choice in choices]
    assert scored[0] == scored[1] != scored[2] == scored[3]
    assert [len(one) for one in scored] == [3, 3, 3, 3]


def test_a_scored_prompt_counts_as_read(smollm2_server: Server) -> None:
    asked = {"prompt": "Once upon a time there was a fox. " * 20, "max_tokens": 1}
    known = [ask(smollm2_server, TEXT, **asked, prompt_logprobs=0) for _ in range(2)]
    assert [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in known] == [0, 0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"prompt_logprobs": -1}, ">= 0"),
        ({"prompt_logprobs": 21}, "<= 20"),
        ({"prompt_logprobs": "1"}, "got `str`"),
        ({"prompt_logprobs": 1, "stream": True}, "can't be streamed"),
    ],
)
@BOTH
def test_prompt_reports_that_cannot_be_had_are_refused(
    smollm2_server: Server, path: str, more: dict[str, Any], words: str
) -> None:
    answer = smollm2_server.post(path, {**ASKED[path], **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt_logprobs")
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_chosen_token_is_among_a_texts_most_probable_ones(smollm2_server: Server, most: int) -> None:
    report = ask(smollm2_server, TEXT, logprobs=most, temperature=2, seed=1, return_tokens_as_token_ids=True)
    report = report["choices"][0]["logprobs"]
    tops = report["top_logprobs"]
    for token, logprob, top in zip(report["tokens"], report["token_logprobs"], tops, strict=True):
        assert top[token] == logprob
        assert max(most, 1) <= len(top) <= most + 1
    assert any(len(top) == most + 1 for top in tops)


CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}


@BOTH
def test_every_chunk_of_a_stream_can_have_the_usage_until_then(smollm2_server: Server, path: str) -> None:
    usage = ask(smollm2_server, path, ignore_eos=True)["usage"]
    chunks = chunks_of(smollm2_server, path, stream_options=CONTINUOUS, ignore_eos=True)
    written = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert written == sorted(written)
    assert written[-1] == 6
    assert len(set(written)) > 2
    for chunk in chunks:
        assert chunk["usage"]["prompt_tokens"] == usage["prompt_tokens"]
        assert chunk["usage"]["total_tokens"] == usage["prompt_tokens"] + chunk["usage"]["completion_tokens"]
    assert chunks[-1]["choices"] == []


def test_usage_until_then_counts_all_prompts(smollm2_server: Server) -> None:
    prompts = [PROMPT, "Once upon a time"]
    whole = ask(smollm2_server, TEXT, prompt=prompts, n=2)["usage"]
    chunks = chunks_of(smollm2_server, TEXT, prompt=prompts, n=2, stream_options=CONTINUOUS)
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {whole["prompt_tokens"]}


@BOTH
def test_continuous_usage_without_usage_changes_nothing_and_is_named(smollm2_server: Server, path: str) -> None:
    given = {**ASKED[path], "max_tokens": 1, "stream": True}
    answer = smollm2_server.post(path, {**given, "stream_options": {"continuous_usage_stats": True}})
    assert answer.headers["x-ignored-fields"] == "stream_options.continuous_usage_stats"
    assert '"usage"' not in answer.text


SAYING = [{"role": "user", "content": "A saying, please."}, {"role": "assistant", "content": "An apple a day keeps"}]


def test_last_message_is_gone_on_with_as_vllms_clients_ask_for_it(smollm2_server: Server) -> None:
    how = {"messages": SAYING, "continue_final_message": True}
    plain = ask(smollm2_server, CHAT, **how)
    assert ask(smollm2_server, CHAT, **how, add_generation_prompt=False)["choices"] == plain["choices"]


def test_prompt_ends_without_an_open_turn_where_none_is_wanted(smollm2_server: Server) -> None:
    for opens in (None, True, False):
        answer = ask(smollm2_server, CHAT, add_generation_prompt=opens, return_token_ids=True)
        expected = tokens_of(smollm2_server, messages=MESSAGES, add_generation_prompt=opens)
        assert answer["prompt_token_ids"] == expected
        assert text_of(smollm2_server, expected).rstrip().endswith("assistant") is (opens is not False)
