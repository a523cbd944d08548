"""Models of pydantic's through the SDKs' `parse`, and agents' tools, over HTTP from a real model."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import anthropic
import openai
import pydantic
import pytest
from pydantic import BaseModel, Field
from support.running.clients import sdk
from support.running.servers import ROOT, Server

pytestmark = pytest.mark.model

Short = Annotated[str, Field(max_length=6)]
QUESTION: list[Any] = [{"role": "user", "content": "Describe an order."}]
AGENTS = json.loads((ROOT / "tests/support/agents_tools.json").read_text())


class Card(BaseModel):
    kind: Literal["card"] = "card"
    digits: Literal["1234", "5678"]


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


class Order(BaseModel):
    words: Annotated[set[Short], Field(min_length=2, max_length=2)]
    sizes: set[Literal["S", "M"]]
    paid: Annotated[Card | Cash, Field(discriminator="kind")]
    secret: Annotated[pydantic.SecretStr, Field(max_length=4)]


HOW: Any = {"model": "any", "temperature": 0.9, "seed": 3}


def test_a_chat_completion_parses_into_a_model(smollm2_server: Server) -> None:
    with sdk(smollm2_server, timeout=300) as client:
        answer = client.chat.completions.parse(messages=QUESTION, response_format=Order, max_tokens=400, **HOW)
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Order)


def test_a_response_parses_into_a_model(smollm2_server: Server) -> None:
    how = {name: value for name, value in HOW.items() if name != "seed"}
    with sdk(smollm2_server, timeout=300) as client:
        answer = client.responses.parse(input=QUESTION, text_format=Order, max_output_tokens=400, **how)
    assert isinstance(answer.output_parsed, Order)


def test_a_strict_functions_arguments_parse_into_a_model(smollm2_server: Server) -> None:
    with sdk(smollm2_server, timeout=300) as client:
        answer = client.chat.completions.parse(
            messages=QUESTION,
            tools=[openai.pydantic_function_tool(Order)],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=400,
            **HOW,
        )
    assert answer.choices[0].message.tool_calls is not None
    [call] = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Order)


class Payment(BaseModel):
    paid: Annotated[Card | Cash, Field(discriminator="kind")]


def test_a_message_parses_into_a_model(smollm2_server: Server) -> None:
    """Anthropic's SDK sends what is left without bounds and patterns, and a union without its discriminator."""
    with anthropic.Anthropic(base_url=smollm2_server.root, api_key="not-needed", max_retries=0) as client:
        answer = client.messages.parse(model="any", max_tokens=400, messages=QUESTION, output_format=Payment)
    assert isinstance(answer.parsed_output, Payment)


def test_an_agents_own_tools_can_be_forced(smollm2_server: Server) -> None:
    tools = [{"name": name, "input_schema": schema} for name, schema in AGENTS["claude-code"].items()][9:12]
    body = {"max_tokens": 24, "messages": QUESTION, "tools": tools, "tool_choice": {"type": "any"}}
    answer = smollm2_server.post("/v1/messages", body, timeout=300)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Ignored-Fields"] == "tools[0].input_schema.properties.ws.properties.protocols.items"
    assert answer.json()["content"][0]["type"] == "tool_use" or answer.json()["stop_reason"] == "max_tokens"


REFUSED = [
    ({"tags": {"type": "array", "items": {}, "contains": {"const": 1}}}, "properties.tags.contains"),
    ({"code": {"type": "string", "pattern": r"^(a)\1$"}}, "properties.code.pattern"),
    ({"code": {"type": "string", "pattern": "(["}}, "properties.code"),
]


@pytest.mark.parametrize(("properties", "path"), REFUSED)
def test_a_refusal_says_where_and_what_else(smollm2_server: Server, properties: dict[str, Any], path: str) -> None:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    fields = {
        "response_format.json_schema.schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        },
        "tools[0].function.parameters": {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}]
        },
    }
    for field, more in fields.items():
        answer = smollm2_server.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 4, **more})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == f"{field}.{path}"
        assert error["message"].startswith(f"`{field}.{path}` can't be guaranteed: ")
    loose = {"response_format": {"type": "json_object", "schema": schema}, "max_tokens": 4}
    answer = smollm2_server.post("/v1/chat/completions", {"messages": QUESTION, **loose})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Ignored-Fields"] == f"response_format.schema.{path}"
