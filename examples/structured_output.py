"""Structured output: answers that are pydantic models, JSON of a schema, one of a few texts, or match a pattern.

What the answer must be is enforced while it is written, so that also a small model can't get it wrong.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Literal

from openai import OpenAI
from pydantic import BaseModel

MODEL = "local-model"
REVIEW = "The soup was cold, but the waiter was kind. I paid 12 euros."


class Review(BaseModel):
    """What we want to know of a review."""

    mood: Literal["good", "mixed", "bad"]
    dish: Literal["soup", "salad", "cake"]
    would_return: bool


def ask(text: str) -> Any:
    """The question, greedy and short."""
    message = {"role": "user", "content": f"{text}\n\n{REVIEW}"}
    return {"model": MODEL, "messages": [message], "temperature": 0, "max_tokens": 60}


def pydantic_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(**ask("Summarise this review as JSON."), response_format=Review)
    print("Model:", repr(answer.choices[0].message.parsed))


def json_schema(client: OpenAI) -> None:
    """Say `additionalProperties: false`, or the model may add fields of its own."""
    schema = {
        "type": "object",
        "properties": {"euros": {"type": "integer", "minimum": 0, "maximum": 100}},
        "required": ["euros"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        **ask("What was paid? Answer as JSON."),
        response_format={"type": "json_schema", "json_schema": {"name": "price", "schema": schema}},
    )
    print("Schema:", json.loads(answer.choices[0].message.content))


def choice(client: OpenAI) -> None:
    """vLLM's parameters work too."""
    answer = client.chat.completions.create(
        **ask("Is this review good, mixed or bad?"),
        extra_body={"structured_outputs": {"choice": ["good", "mixed", "bad"]}},
    )
    print("Choice:", answer.choices[0].message.content)


def pattern(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        **ask("What was paid?"), extra_body={"structured_outputs": {"regex": r"EUR [0-9]{1,3}\.[0-9]{2}"}}
    )
    print("Pattern:", answer.choices[0].message.content)


def main() -> None:
    """Each kind once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    for kind in (pydantic_model, json_schema, choice, pattern):
        kind(client)


if __name__ == "__main__":
    main()
