"""LiteLLM, through its OpenAI and its Anthropic provider."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import fetches prices over the network

import litellm
from checks import ANSWER, KEY, MODEL, QUESTION, WEATHER, root, run

ASKED: Any = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 20}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Tokyo"]}},
            "required": ["city"],
        },
    },
}
CALLED: Any = {
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "max_tokens": 60,
}


def ask(url: str, **more: Any) -> Any:
    """One call of the OpenAI provider."""
    return litellm.completion(model=f"openai/{MODEL}", api_base=url, api_key=KEY, **more)


def ask_anthropic(url: str, **more: Any) -> Any:
    """One call of the Anthropic provider."""
    return litellm.completion(model=f"anthropic/{MODEL}", api_base=root(url), api_key=KEY, **more)


def said(chunks: Any) -> str:
    """A stream's text."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def completion(url: str) -> None:
    assert ask(url, **ASKED).choices[0].message.content == ANSWER


def streaming(url: str) -> None:
    assert said(ask(url, **ASKED, stream=True)) == ANSWER


def tools(url: str) -> None:
    [call] = ask(url, **CALLED).choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Tokyo")


def anthropic(url: str) -> None:
    assert ask_anthropic(url, **ASKED).choices[0].message.content == ANSWER


def anthropic_streaming(url: str) -> None:
    assert said(ask_anthropic(url, **ASKED, stream=True)) == ANSWER


def anthropic_tools(url: str) -> None:
    [call] = ask_anthropic(url, **CALLED).choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Tokyo")


def embeddings(url: str) -> None:
    answer = litellm.embedding(model=f"openai/{MODEL}", input=[QUESTION, WEATHER], api_base=url, api_key=KEY)
    first, second = (one["embedding"] for one in answer.data)
    assert len(first) == len(second) > 100
    assert answer.usage.prompt_tokens == 14


def reranking(url: str) -> None:
    """As Cohere's, as Jina's and as vLLM's endpoint."""
    asked: Any = {"query": QUESTION, "documents": [WEATHER, QUESTION], "top_n": 1, "api_key": KEY}
    for provider, base in (("cohere", root(url)), ("jina_ai", f"{url}/rerank"), ("hosted_vllm", url)):
        [best] = litellm.rerank(model=f"{provider}/{MODEL}", api_base=base, **asked).results
        assert best["index"] == 1
        assert best["relevance_score"] > 0.99


if __name__ == "__main__":
    run(completion, streaming, tools, anthropic, anthropic_streaming, anthropic_tools, embeddings, reranking)
