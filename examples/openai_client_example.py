"""A tour of the server with OpenAI's SDK: chat, streaming, choices, log-probabilities, seeds, JSON, functions, errors.

pip install openai; mlx-server launch --model-path …; python examples/openai_client_example.py
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import openai
from openai import OpenAI

MODEL = "local-model"  # one model is served, so any name will do
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Tokyo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def ask(text: str) -> Any:
    """A conversation's beginning."""
    return [{"role": "user", "content": text}]


def chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ask("What is the capital of France?"), temperature=0, max_tokens=20
    )
    print("Chat:", answer.choices[0].message.content)
    print("Usage:", answer.usage.prompt_tokens, "tokens in,", answer.usage.completion_tokens, "out")


def stream(client: OpenAI) -> None:
    print("Streamed: ", end="")
    for chunk in client.chat.completions.create(
        model=MODEL, messages=ask("Count to five."), temperature=0, max_tokens=20, stream=True
    ):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def choices(client: OpenAI) -> None:
    """The choices share one reading of the prompt and are written side by side."""
    answer = client.chat.completions.create(model=MODEL, messages=ask("Name a colour."), n=3, max_tokens=10)
    print("Three choices:", [choice.message.content for choice in answer.choices])


def log_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask("What is the capital of France?"),
        temperature=0,
        max_tokens=3,
        logprobs=True,
        top_logprobs=2,
    )
    for token in answer.choices[0].logprobs.content:
        print("Token:", {top.token: f"{math.exp(top.logprob):.1%}" for top in token.top_logprobs})


def seed(client: OpenAI) -> None:
    """The same seed gives the same answer, whatever else the server is doing."""
    asked = {"model": MODEL, "messages": ask("Invent a name for a cat."), "seed": 7, "max_tokens": 10}
    first, second = (client.chat.completions.create(**asked).choices[0].message.content for _ in range(2))
    print("The same seed twice:", "same answer" if first == second else "different answers", "-", first)


def structured_output(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Lyon"]}, "is_capital": {"type": "boolean"}},
        "required": ["city", "is_capital"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask("Name a city in France."),
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
        max_tokens=40,
    )
    print("JSON:", answer.choices[0].message.content)


def tools(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask("What is the weather in Tokyo?"),
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=60,
    )
    for call in answer.choices[0].message.tool_calls or []:
        print("Call:", call.function.name, call.function.arguments)


def errors(client: OpenAI) -> None:
    try:
        client.chat.completions.create(model=MODEL, messages=ask("Hello!"), temperature=9)
    except openai.BadRequestError as error:
        print("Refused:", error.status_code, error.param, "-", error.body["message"])


def main() -> None:
    """Take the tour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    for stop in (chat, stream, choices, log_probabilities, seed, structured_output, tools, errors):
        stop(client)


if __name__ == "__main__":
    main()
