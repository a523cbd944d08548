"""What this server wrote is taken back as history by a strict server, as the SDKs' objects hold it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from support.running.clients import sdk
from support.running.servers import Server, serving
from support.tiny.models import make_model

pytestmark = pytest.mark.model

USER: Any = {"role": "user", "content": "the quick brown fox"}
PARAMETERS = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
FUNCTION = {"name": "jump", "parameters": PARAMETERS, "strict": True}
SAMPLED: Any = {"temperature": 1, "extra_body": {"seed": 3, "thinking_budget": 5}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that thinks, in noise, before everything."""
    folder = make_model(tmp_path_factory.mktemp("thinker"), "llama", thinks=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    with serving(
        "--model-path", folder, "--strict-params", "--chat-template-args", json.dumps({"opens_thinking": True})
    ) as server:
        yield server


def check_taken(server: Server, path: str, body: dict[str, Any]) -> None:
    """A request is answered, and nothing of it was ignored."""
    answer = server.post(path, {"model": "m", "max_tokens": 4, **body})
    assert answer.status_code == 200, answer.text
    assert "x-ignored-fields" not in answer.headers


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_chat_takes_its_messages_back(server: Server, calls: bool, streamed: bool) -> None:
    function = {"type": "function", "function": FUNCTION}
    tools: Any = {"tools": [function], "tool_choice": "required", "parallel_tool_calls": False} if calls else {}
    asked: Any = {"model": "m", "messages": [USER], "max_tokens": 90, "logprobs": True, **tools, **SAMPLED}
    with sdk(server) as client:
        if streamed:
            with client.chat.completions.stream(**asked) as stream:
                stream.until_done()
                message = stream.current_completion_snapshot.choices[0].message.model_dump()
        else:
            message = client.chat.completions.create(**asked).choices[0].message.model_dump()
    assert message["reasoning"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in message["tool_calls"] or ()]
    assert bool(results) is calls
    check_taken(server, "/v1/chat/completions", {"messages": [USER, message, *results, USER], **tools})
    check_taken(server, "/tokenize", {"max_tokens": None, "messages": [USER, message, *results, USER]})


def test_chat_takes_what_other_apis_and_servers_add(server: Server) -> None:
    call = {"id": "a", "type": "function", "index": 0, "function": {"name": "jump", "arguments": "{}"}}
    said = {"role": "assistant", "content": "yes", "audio": None, "function_call": None, "refusal": None, "id": "1"}
    extra = {"status": "completed", "annotations": [], "citations": [{"url": "x"}], "logprobs": {"content": []}}
    part = {"type": "text", "text": "yes", "annotations": [], "logprobs": []}
    messages = [
        USER,
        said | extra | {"reasoning": "hm", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [part]},
        USER,
    ]
    check_taken(server, "/v1/chat/completions", {"messages": messages})


@pytest.mark.parametrize("calls", [False, True])
def test_responses_takes_its_items_back(server: Server, calls: bool) -> None:
    function = {"type": "function", **FUNCTION}
    tools: Any = {"tools": [function], "tool_choice": "required", "parallel_tool_calls": False} if calls else {}
    include: Any = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    with sdk(server) as client:
        answer = client.responses.create(
            model="m", input=[USER], max_output_tokens=90, include=include, store=False, **tools, **SAMPLED
        )
    items = [item.model_dump() for item in answer.output]
    assert {"reasoning", "function_call" if calls else "message"} <= {item["type"] for item in items}
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "1"}
        for item in items
        if "call_id" in item
    ]
    body = {
        "input": [USER, *items, *results, USER],
        "max_tokens": None,
        "max_output_tokens": 4,
        "store": False,
        **tools,
    }
    check_taken(server, "/v1/responses", body)
    parsed = [{**item, "parsed_arguments": {"n": 1}, "caller": {"type": "direct"}} for item in items]
    check_taken(server, "/v1/responses", {**body, "input": [USER, *parsed, *results, USER]})


def test_responses_takes_the_phases_that_other_servers_name(server: Server) -> None:
    said = [
        {"type": "message", "role": "assistant", "phase": phase, "content": "the lazy dog"}
        for phase in ("commentary", "final_answer")
    ]
    check_taken(server, "/v1/responses", {"input": [*said, USER], "max_tokens": None, "max_output_tokens": 4})


@pytest.mark.parametrize("calls", [False, True])
def test_messages_takes_its_blocks_back(server: Server, calls: bool) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    tools: Any = {"tools": [{"name": "jump", "input_schema": PARAMETERS}], "tool_choice": choice} if calls else {}
    thinking: Any = {"type": "enabled", "budget_tokens": 5}
    sampled = {"temperature": 0}
    with anthropic.Anthropic(base_url=server.root, api_key="none", max_retries=0) as client:
        answer = client.messages.create(
            model="m", max_tokens=90, messages=[USER], thinking=thinking, extra_body=sampled, **tools
        )
    message = answer.model_dump()
    assert {"thinking", "tool_use" if calls else "text"} <= {block["type"] for block in message["content"]}
    blocks = [{**block, "caller": {"type": "direct"}} for block in message["content"]]
    results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "1"} for block in blocks if "id" in block]
    after = {"role": "user", "content": [*results, {"type": "text", "text": "go on"}]}
    for turn in (message, {"role": "assistant", "content": blocks}):
        check_taken(server, "/v1/messages", {"messages": [USER, turn, after], **tools})
        check_taken(server, "/v1/messages/count_tokens", {"max_tokens": None, "messages": [USER, turn, after], **tools})


def test_a_null_says_nothing_and_anything_else_is_still_refused(server: Server) -> None:
    check_taken(server, "/v1/chat/completions", {"messages": [{**USER, "wizardry": None}], "magic": None})
    for body, param in (({"magic": 1}, "magic"), ({"messages": [{**USER, "wizardry": 1}]}, "messages[0].wizardry")):
        answer = server.post("/v1/chat/completions", {"messages": [USER], **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
