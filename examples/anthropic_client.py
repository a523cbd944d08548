"""The same server with Anthropic's SDK: messages, streaming, tools, and the number of a prompt's tokens."""

from __future__ import annotations

import argparse
from typing import Any

from anthropic import Anthropic

MODEL = "local-model"
TOOL: Any = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Tokyo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def ask(text: str) -> Any:
    """A conversation's beginning."""
    return [{"role": "user", "content": text}]


def message(client: Anthropic) -> None:
    answer = client.messages.create(
        model=MODEL,
        system="You are a helpful assistant.",
        messages=ask("What is the capital of France?"),
        max_tokens=20,
        extra_body={"temperature": 0},  # the API has it, the SDK has no argument for it any more
    )
    print("Message:", answer.content[0].text, f"({answer.stop_reason})")


def stream(client: Anthropic) -> None:
    print("Streamed: ", end="")
    with client.messages.stream(model=MODEL, messages=ask("Count to five."), max_tokens=20) as pieces:
        for text in pieces.text_stream:
            print(text, end="", flush=True)
    print()


def tool(client: Anthropic) -> None:
    answer = client.messages.create(
        model=MODEL,
        messages=ask("What is the weather in Tokyo?"),
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        max_tokens=60,
    )
    for block in answer.content:
        if block.type == "tool_use":
            print("Call:", block.name, block.input)


def count(client: Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=ask("What is the capital of France?"))
    print("Tokens of the prompt:", counted.input_tokens)


def main() -> None:
    """Each kind once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    address = parser.parse_args().base_url.removesuffix("/v1")  # Anthropic's SDK adds the /v1 itself
    client = Anthropic(base_url=address, api_key="not-needed")
    for kind in (message, stream, tool, count):
        kind(client)


if __name__ == "__main__":
    main()
