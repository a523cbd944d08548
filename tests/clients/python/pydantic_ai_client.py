"""Pydantic AI: agents with typed output and tools."""

from __future__ import annotations

from typing import Literal

from checks import ANSWER, KEY, MODEL, QUESTION, WEATHER, run
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings


class Capital(BaseModel):
    """A structured answer."""

    city: Literal["Paris", "Rome"]
    large: bool


SETTINGS = ModelSettings(temperature=0, max_tokens=60)


def model(url: str) -> OpenAIChatModel:
    """The server's model."""
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key=KEY), settings=SETTINGS)


def agent(url: str) -> None:
    assert Agent(model(url)).run_sync(QUESTION).output == ANSWER


def output_type(url: str) -> None:
    """A function call that Pydantic AI forces."""
    assert isinstance(Agent(model(url), output_type=Capital).run_sync(QUESTION).output, Capital)


def native_output(url: str) -> None:
    """A JSON schema as the response's format."""
    assert isinstance(Agent(model(url), output_type=NativeOutput(Capital)).run_sync(QUESTION).output, Capital)


def tool(url: str) -> None:
    """One round with a tool whose result is the answer: the model is made to call it."""

    def get_weather(city: Literal["Paris", "Tokyo"]) -> str:
        return f"It rains in {city}."

    answer = Agent(model(url), output_type=get_weather).run_sync(WEATHER).output
    assert answer.startswith("It rains in ")


if __name__ == "__main__":
    run(agent, output_type, native_output, tool)
