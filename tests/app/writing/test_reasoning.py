"""Reasoning over HTTP, from a small random model that has its marks: what it says is noise, where it stands is not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.running.clients import sdk
from support.running.servers import Server, serving
from support.tiny.models import make_model

pytestmark = pytest.mark.model

FORM = {"n": {"enum": [1, 2]}}
SCHEMA = {"type": "object", "properties": FORM, "required": ["n"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
OPENS = {"opens_thinking": True}
BUDGET = 5


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = make_model(tmp_path_factory.mktemp("thinker"), "llama", thinks=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    with serving("--model-path", folder, "--max-concurrency", 4) as server:
        yield server


def _ask(server: Server, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "the quick brown fox"}], "temperature": 1, "seed": 3, **more}
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_budget_ends_the_reasoning_and_the_grammar_begins_after_it(thinker: Server) -> None:
    how = {"chat_template_kwargs": OPENS, "thinking_budget": BUDGET, "response_format": FORMAT, "max_tokens": 60}
    answer = _ask(thinker, **how)
    message = answer["choices"][0]["message"]
    assert json.loads(message["content"]) in ({"n": 1}, {"n": 2})
    assert message["reasoning_content"] == message["reasoning"] != ""
    assert "<think>" not in message["reasoning"] + message["content"]
    assert "</think>" not in message["reasoning"] + message["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    details = answer["usage"]["completion_tokens_details"]
    assert BUDGET <= details["reasoning_tokens"] <= BUDGET + 1 < answer["usage"]["completion_tokens"]


def test_a_budget_may_have_vllms_name(thinker: Server) -> None:
    how = {"chat_template_kwargs": OPENS, "response_format": FORMAT, "max_tokens": 60}
    named = _ask(thinker, **how, thinking_token_budget=BUDGET)
    assert named["choices"] == _ask(thinker, **how, thinking_budget=BUDGET)["choices"]
    unbounded = {**how, "max_tokens": 20}
    assert _ask(thinker, **unbounded, thinking_token_budget=-1)["choices"] == _ask(thinker, **unbounded)["choices"]


def test_reasoning_is_streamed_apart_from_the_content(thinker: Server) -> None:
    how: dict[str, Any] = {"thinking_budget": BUDGET, "chat_template_kwargs": OPENS}
    whole = _ask(thinker, **how, response_format=FORMAT, max_tokens=60)["choices"][0]["message"]
    thought, said, order = "", "", []
    with sdk(thinker) as client:
        stream = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "the quick brown fox"}],
            temperature=1,
            seed=3,
            max_tokens=60,
            response_format=FORMAT,  # type: ignore[arg-type]
            stream=True,
            extra_body=how,
        )
        for chunk in stream:
            delta = chunk.choices[0].delta
            reasoning = (delta.model_extra or {}).get("reasoning_content")
            order += ["thought"] * bool(reasoning) + ["said"] * bool(delta.content)
            thought += reasoning or ""
            said += delta.content or ""
    assert (thought, said) == (whole["reasoning_content"], whole["content"])
    assert order == sorted(order, reverse=True), "all thoughts come before all that is said"


@pytest.mark.parametrize("how", [{"response_format": FORMAT}, {"tools": TOOLS, "tool_choice": "required"}])
def test_a_thought_that_wants_to_end_the_turn_goes_on_where_something_was_demanded(
    thinker: Server, how: dict[str, Any]
) -> None:
    marks = {"prompt": "<|im_end|></think>", "add_special_tokens": False}
    end, closing = thinker.post("/tokenize", marks).json()["tokens"]
    wish = {"chat_template_kwargs": OPENS, "logit_bias": {str(end): 100, str(closing): -100}}
    assert _ask(thinker, **wish)["choices"][0]["finish_reason"] == "stop"
    demanded = _ask(thinker, **wish, **how, max_tokens=12)
    assert demanded["choices"][0]["finish_reason"] == "length"
    assert demanded["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12


@pytest.mark.parametrize("how", [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}])
def test_reasoning_that_is_switched_off_does_not_happen(thinker: Server, how: dict[str, Any]) -> None:
    answer = _ask(thinker, **how, response_format=FORMAT, max_tokens=40)
    message = answer["choices"][0]["message"]
    assert json.loads(message["content"]) in ({"n": 1}, {"n": 2})
    assert "reasoning_content" not in message
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_a_model_that_may_think_may_also_answer_at_once(thinker: Server) -> None:
    for seed in range(6):
        message = _ask(thinker, response_format=FORMAT, max_tokens=60, seed=seed, thinking_budget=3)["choices"][0][
            "message"
        ]
        assert json.loads(message["content"]) in ({"n": 1}, {"n": 2})


def test_a_forced_call_comes_after_the_reasoning(thinker: Server) -> None:
    how = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "thinking_budget": BUDGET}
    choice = _ask(thinker, **how, chat_template_kwargs=OPENS, max_tokens=120)["choices"][0]
    assert choice["message"]["reasoning_content"]
    [call] = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) in ({"n": 1}, {"n": 2})
    assert choice["finish_reason"] == "tool_calls"


def test_a_model_that_does_not_reason_keeps_to_any_budget(smollm2_server: Server) -> None:
    answer = smollm2_server.chat("hi", thinking_budget=5, max_tokens=1)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "thinking_budget"
    answer = smollm2_server.chat("hi", thinking_token_budget=5, max_tokens=1)
    assert answer.headers["x-ignored-fields"] == "thinking_token_budget"
