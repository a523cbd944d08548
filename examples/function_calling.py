"""Function calling: the model asks for functions, this script runs them, the model answers with what they found."""

from __future__ import annotations

import argparse
import json
from typing import Any

from openai import OpenAI

MODEL = "local-model"
WEATHER = {"Paris": "18 degrees and rain", "Tokyo": "22 degrees and sun"}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": list(WEATHER)}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def get_weather(city: str) -> str:
    """What the model's calls are answered with."""
    return f"The weather in {city}: {WEATHER[city]}."


FUNCTIONS = {"get_weather": get_weather}


def call(client: OpenAI, messages: list[Any], tool_choice: str) -> Any:
    """The model's next message. `auto` leaves the calls to the model, `required` makes it call something."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=TOOLS,
        tool_choice=tool_choice,
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=60,
    )
    return answer.choices[0].message


def converse(client: OpenAI, question: str) -> None:
    """One question, the calls it needs, and the answer."""
    messages: list[Any] = [{"role": "user", "content": question}]
    message = call(client, messages, "auto")
    if not message.tool_calls:
        print("The model would answer by itself:", message.content)
        message = call(client, messages, "required")
    messages.append(message)
    for tool_call in message.tool_calls:
        arguments = json.loads(tool_call.function.arguments)
        result = FUNCTIONS[tool_call.function.name](**arguments)
        print(f"Called {tool_call.function.name}({arguments}): {result}")
        messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": result})
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=40)
    print("Answer:", answer.choices[0].message.content)


def stream(client: OpenAI, question: str) -> None:
    """A call's name comes first, its arguments in pieces."""
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=60,
        stream=True,
    )
    print("Streamed: ", end="")
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or []:
            print(piece.function.name or "", piece.function.arguments, sep="", end="|", flush=True)
    print()


def main() -> None:
    """Ask, call, answer; then the same as a stream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    converse(client, "What is the weather in Paris?")
    stream(client, "What is the weather in Tokyo?")


if __name__ == "__main__":
    main()
