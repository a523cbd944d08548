"""What models say, end to end: what the APIs' own clients get of it, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from support.inputs.said import ACCENTS, SAYINGS, SCHEMAS, Saying
from support.running.clients import sdk
from support.running.parrot import make_parrots
from support.running.servers import Server, serving

pytestmark = pytest.mark.model

Got = tuple[str, list[tuple[str, str]], str | None]
"""Text, calls with their arguments as they came, and why the answer ended."""


@dataclass
class Speakers:
    """Models that have been taught what to say."""

    server: Server
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic
    messages: dict[str, str]

    def asked(self, saying: Saying, stream: bool) -> dict[str, Any]:
        return {"model": saying.family, "temperature": 0, "stream": stream}

    def content(self, saying: Saying) -> str:
        return self.messages[saying.family + saying.text]


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speakers]:
    folder = tmp_path_factory.mktemp("parrots")
    messages = make_parrots(folder, [(saying.family, ACCENTS[saying.family], saying.text) for saying in SAYINGS])
    models = [flag for name in ACCENTS for flag in ("--model", f"{name}={folder / name}")]
    with (
        serving(*models, "--prefix-cache-mb", 0, until=Server.wait_listening) as server,
        sdk(server) as client,
        anthropic.Anthropic(base_url=server.root, api_key="any") as other,
    ):
        yield Speakers(server, client, other, messages)


def by_chat(speakers: Speakers, saying: Saying, stream: bool) -> Got:
    functions = [{"name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
    asked: dict[str, Any] = {
        **speakers.asked(saying, stream),
        "messages": [{"role": "user", "content": speakers.content(saying)}],
        "tools": [{"type": "function", "function": function} for function in functions],
    }
    answer: Any = speakers.openai.chat.completions.create(**asked)
    if not stream:
        [choice] = answer.choices
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        return choice.message.content or "", calls, choice.finish_reason
    text, parts, reason = "", [], None
    for chunk in answer:
        [choice] = chunk.choices
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or []:
            if call.function.name:
                parts.append((call.function.name, ""))
            parts[call.index] = (parts[call.index][0], parts[call.index][1] + (call.function.arguments or ""))
    return text, parts, reason


def by_responses(speakers: Speakers, saying: Saying, stream: bool) -> Got:
    tools = [{"type": "function", "name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
    asked: dict[str, Any] = {**speakers.asked(saying, stream), "input": speakers.content(saying), "tools": tools}
    answer: Any = speakers.openai.responses.create(**asked)
    if stream:
        events = list(answer)
        written = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
        answer = events[-1].response
        assert written == "".join(item.arguments for item in answer.output if item.type == "function_call")
    calls = [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]
    return answer.output_text, calls, "tool_calls" if calls else "stop"


def by_messages(speakers: Speakers, saying: Saying, stream: bool) -> Got:
    asked: dict[str, Any] = {
        "model": saying.family,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": speakers.content(saying)}],
        "tools": [{"name": name, "input_schema": schema} for name, schema in SCHEMAS.items()],
        "extra_body": {"temperature": 0},
    }
    if stream:
        with speakers.anthropic.messages.stream(**asked) as events:
            message: Any = events.get_final_message()
    else:
        message = speakers.anthropic.messages.create(**asked)
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [(block.name, json.dumps(block.input)) for block in message.content if block.type == "tool_use"]
    return text, calls, {"tool_use": "tool_calls", "end_turn": "stop"}.get(message.stop_reason)


APIS = {"chat": by_chat, "responses": by_responses, "messages": by_messages}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", APIS)
def test_clients_get_what_models_meant(speakers: Speakers, api: str, stream: bool) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda saying: APIS[api](speakers, saying, stream), SAYINGS))
    for saying, (said, calls, reason) in zip(SAYINGS, answers, strict=True):
        raw = [] if not saying.raw else [json.loads(calls.pop()[1])] if api == "messages" else [calls.pop()[1]]
        got = (said, [(name, json.loads(arguments)) for name, arguments in calls], raw)
        expected = [{"INVALID_JSON": saying.raw} if api == "messages" else saying.raw] if saying.raw else []
        assert got == (saying.said, saying.calls, expected), saying.name
        assert reason == ("tool_calls" if saying.calls else "stop"), saying.name


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_calls_are_text_where_none_is_wanted(speakers: Speakers, stream: bool) -> None:
    saying = next(saying for saying in SAYINGS if saying.name == "json_backslash")
    body = {"role": "user", "content": speakers.content(saying)}
    answer: Any = speakers.openai.chat.completions.create(messages=[body], **speakers.asked(saying, stream))
    parts = (
        [chunk.choices[0].delta.content or "" for chunk in answer] if stream else [answer.choices[0].message.content]
    )
    assert "".join(parts) == saying.text


def test_a_call_that_is_cut_off_is_what_there_is_of_it(speakers: Speakers) -> None:
    saying = next(saying for saying in SAYINGS if saying.name == "json_raw_newline")
    for most, calls, content in ((20, 1, None), (6, 0, '<tool_call>\n{"name": "wr')):
        got = speakers.server.post(
            "/v1/chat/completions",
            {
                **speakers.asked(saying, False),
                "messages": [{"role": "user", "content": speakers.content(saying)}],
                "tools": [{"type": "function", "function": {"name": "write"}}],
                "max_tokens": most,
            },
        ).json()["choices"][0]
        assert (len(got["message"].get("tool_calls") or []), got["finish_reason"]) == (calls, "length")
        assert got["message"]["content"] == content
