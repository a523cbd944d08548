"""OpenAI's Python SDK."""

from __future__ import annotations

import json
from typing import Any, Literal

from checks import ANSWER, KEY, MODEL, QUESTION, WEATHER, run
from openai import OpenAI
from pydantic import BaseModel

ASKED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 20,
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tell the weather or the time in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Paris", "Tokyo"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("get_weather", "get_time")
]
CALLED: Any = {
    **ASKED,
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": TOOLS,
    "parallel_tool_calls": False,
    "max_tokens": 60,
}
NAMED: Any = {"type": "function", "function": {"name": "get_time"}}


class Capital(BaseModel):
    """A structured answer."""

    city: Literal["Paris", "Rome"]
    large: bool


def client(url: str) -> OpenAI:
    """A client that shows every failure."""
    return OpenAI(base_url=url, api_key=KEY, max_retries=0)


def chat(url: str) -> None:
    completion = client(url).chat.completions.create(**ASKED)
    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"


def streaming(url: str) -> None:
    chunks = list(client(url).chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 8


def required_tool(url: str) -> None:
    [choice] = client(url).chat.completions.create(**CALLED, tool_choice="required").choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in ("get_weather", "get_time")
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Tokyo")


def named_tool(url: str) -> None:
    [choice] = client(url).chat.completions.create(**CALLED, tool_choice=NAMED).choices
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_time"


def streamed_tool(url: str) -> None:
    with client(url).chat.completions.stream(**CALLED, tool_choice=NAMED) as stream:
        events = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        [call] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [event.name for event in events] == ["get_time"]
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Tokyo")


def tool_results(url: str) -> None:
    """The whole turn: a call, its result, and an answer to that."""
    asking = client(url).chat.completions
    message = asking.create(**CALLED, tool_choice=NAMED).choices[0].message
    assert message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Half past nine."}
    answer = asking.create(**{**ASKED, "messages": [*CALLED["messages"], message, result], "max_tokens": 10})
    assert answer.choices[0].message.content


def parsed_model(url: str) -> None:
    [choice] = client(url).beta.chat.completions.parse(**ASKED, response_format=Capital).choices
    assert isinstance(choice.message.parsed, Capital)


def responses(url: str) -> None:
    answer = client(url).responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=20)
    assert answer.output_text == ANSWER
    assert answer.status == "completed"


def streamed_responses(url: str) -> None:
    with client(url).responses.stream(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=20) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text == ANSWER


def previous_response_id(url: str) -> None:
    asking = client(url).responses
    first = asking.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=20)
    second = asking.create(model=MODEL, input="And of Italy?", previous_response_id=first.id, max_output_tokens=5)
    assert second.previous_response_id == first.id
    assert first.usage
    assert second.usage
    assert second.usage.input_tokens > first.usage.total_tokens


def parsed_responses(url: str) -> None:
    answer = client(url).responses.parse(model=MODEL, input=QUESTION, text_format=Capital, max_output_tokens=40)
    assert isinstance(answer.output_parsed, Capital)


def embeddings(url: str) -> None:
    packed = client(url).embeddings.create(model=MODEL, input=[QUESTION, WEATHER])
    plain = client(url).embeddings.create(model=MODEL, input=WEATHER, encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1]
    assert all(abs(a - b) < 1e-4 for a, b in zip(packed.data[1].embedding, plain.data[0].embedding, strict=True))


if __name__ == "__main__":
    run(
        chat,
        streaming,
        required_tool,
        named_tool,
        streamed_tool,
        tool_results,
        parsed_model,
        responses,
        streamed_responses,
        previous_response_id,
        parsed_responses,
        embeddings,
    )
