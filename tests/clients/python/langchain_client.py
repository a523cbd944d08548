"""LangChain's ChatOpenAI and OpenAIEmbeddings."""

from __future__ import annotations

from typing import Literal

from checks import ANSWER, KEY, MODEL, QUESTION, WEATHER, run
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr


class Capital(BaseModel):
    """A structured answer."""

    city: Literal["Paris", "Rome"]
    large: bool


@tool
def get_weather(city: Literal["Paris", "Tokyo"]) -> str:
    """Tell the weather in a city."""
    return f"It rains in {city}."


def model(url: str) -> ChatOpenAI:
    """A model that shows every failure."""
    return ChatOpenAI(
        base_url=url, api_key=SecretStr(KEY), model=MODEL, temperature=0, max_completion_tokens=60, max_retries=0
    )


def invoke(url: str) -> None:
    answer = model(url).invoke(QUESTION)
    assert answer.text == ANSWER
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 8


def stream(url: str) -> None:
    assert "".join(chunk.text for chunk in model(url).stream(QUESTION)) == ANSWER


def batch(url: str) -> None:
    """Several prompts at once, in the order of the prompts and in that of the answers."""
    prompts = [QUESTION, WEATHER, QUESTION, QUESTION]
    short = model(url).bind(max_tokens=20)
    answers = short.batch([*prompts], {"max_concurrency": 3})
    assert [answer.text == ANSWER for answer in answers] == [True, False, True, True]
    as_they_come = dict(short.batch_as_completed([*prompts]))
    assert {at: answer.text for at, answer in as_they_come.items()} == dict(enumerate(one.text for one in answers))


def bind_tools(url: str) -> None:
    """A forced call, run by LangChain, and the answer to its result."""
    asked = HumanMessage(WEATHER)
    called = model(url).bind_tools([get_weather], tool_choice="get_weather", parallel_tool_calls=False).invoke([asked])
    [call] = called.tool_calls
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert result.text.startswith("It rains in")
    short = model(url).bind(max_tokens=10)
    assert short.invoke([asked, called, result]).text


def streamed_tools(url: str) -> None:
    bound = model(url).bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    chunks = list(bound.stream(WEATHER))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert [call["name"] for call in whole.tool_calls] == ["get_weather"]


def structured_output(url: str) -> None:
    for method in ("json_schema", "function_calling"):
        answer = model(url).with_structured_output(Capital, method=method).invoke(QUESTION)
        assert isinstance(answer, Capital)


def responses(url: str) -> None:
    assert model(url).model_copy(update={"use_responses_api": True}).invoke(QUESTION).text == ANSWER


def embeddings(url: str) -> None:
    # Otherwise it sends token ids of OpenAI's own tokenizer, which mean something else to every other model.
    embedder = OpenAIEmbeddings(model=MODEL, base_url=url, api_key=SecretStr(KEY), check_embedding_ctx_length=False)
    _, second = embedder.embed_documents([QUESTION, WEATHER])
    assert all(abs(a - b) < 1e-4 for a, b in zip(second, embedder.embed_query(WEATHER), strict=True))


if __name__ == "__main__":
    run(invoke, stream, batch, bind_tools, streamed_tools, structured_output, responses, embeddings)
