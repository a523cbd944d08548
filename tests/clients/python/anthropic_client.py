"""Anthropic's Python SDK."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic
from checks import ANSWER, KEY, MODEL, QUESTION, WEATHER, root, run

ASKED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 20,
    # The SDK has no argument for it any more; the API has the field.
    "extra_body": {"temperature": 0},
}
TOOL: Any = {
    "name": "get_weather",
    "description": "Tell the weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Tokyo"]}},
        "required": ["city"],
    },
}
CALLED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": [TOOL],
    "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    "max_tokens": 60,
}


def client(url: str) -> Anthropic:
    """A client that shows every failure."""
    return Anthropic(base_url=root(url), api_key=KEY, max_retries=0)


def messages(url: str) -> None:
    message = client(url).messages.create(**ASKED)
    [block] = message.content
    assert block.type == "text"
    assert block.text == ANSWER
    assert message.stop_reason == "end_turn"


def streaming(url: str) -> None:
    with client(url).messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == ANSWER
        assert stream.get_final_message().usage.output_tokens == 8


def tools(url: str) -> None:
    message = client(url).messages.create(**CALLED)
    [block] = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert block.name == "get_weather"
    assert block.input["city"] in ("Paris", "Tokyo")


def streamed_tools(url: str) -> None:
    with client(url).messages.stream(**CALLED) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        [block] = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert pieces
    assert block.input["city"] in ("Paris", "Tokyo")


def count_tokens(url: str) -> None:
    counted = client(url).messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    usage = client(url).messages.create(**ASKED).usage
    # What was known already is counted apart.
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


if __name__ == "__main__":
    run(messages, streaming, tools, streamed_tools, count_tokens)
