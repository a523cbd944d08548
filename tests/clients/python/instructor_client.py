"""Instructor: answers as pydantic models."""

from __future__ import annotations

from typing import Any, Literal

import instructor
from checks import KEY, MODEL, QUESTION, run
from openai import OpenAI
from pydantic import BaseModel


class Capital(BaseModel):
    """A structured answer."""

    city: Literal["Paris", "Rome"]
    large: bool


def ask(url: str, mode: instructor.Mode) -> Any:
    """One answer, without the second chances that Instructor gives a model that answered nonsense."""
    client = instructor.from_openai(OpenAI(base_url=url, api_key=KEY, max_retries=0), mode=mode)
    return client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Capital,
        max_retries=0,
        temperature=0,
        max_tokens=60,
    )


def tools(url: str) -> None:
    assert isinstance(ask(url, instructor.Mode.TOOLS), Capital)


def json_schema(url: str) -> None:
    assert isinstance(ask(url, instructor.Mode.JSON_SCHEMA), Capital)


if __name__ == "__main__":
    run(tools, json_schema)
