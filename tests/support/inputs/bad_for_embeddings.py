"""The table of bad input: what can't be embedded or scored."""

from __future__ import annotations

from typing import Any

from support.inputs.bad_input import Bad
from support.tiny.vectors import EMBEDDINGS, RERANK, SCORE


def embed(param: str | None, message: str, **fields: Any) -> Bad:
    """A request for embeddings with these fields."""
    return Bad({"input": "hi", **fields}, param, message, EMBEDDINGS)


def rerank(param: str | None, message: str, **fields: Any) -> Bad:
    """A request to sort documents with these fields."""
    return Bad({"query": "q", "documents": ["a"], **fields}, param, message, RERANK)


def score(param: str | None, message: str, **fields: Any) -> Bad:
    """A request for scores of these fields."""
    return Bad(fields, param, message, SCORE)


PIXEL = "data:image/png;base64,AAAA"

EMBEDDING_INPUTS = [
    Bad({}, "input", "`input` is missing", EMBEDDINGS),
    Bad(b"", None, "The body is not valid JSON", EMBEDDINGS),
    Bad(b"[]", None, "Expected `object`", EMBEDDINGS),
    embed("input", "got `null`", input=None),
    embed("input", "got `int`", input=5),
    embed("input", "got `object`", input={"text": "hi"}),
    embed("input", "is an empty list", input=[]),
    embed("input", "can't be mixed", input=["a", 5]),
    embed("input", "can't be mixed", input=[[1], "a"]),
    embed("input", "at most 2048 inputs", input=["a"] * 2049),
    embed("input", "at most 2048 inputs", input=[[1]] * 2049),
    embed("input[1]", "is an empty list", input=[[1], []]),
    embed("input[0]", "got `null`", input=[None]),
    embed("input[0]", ">= 0", input=[-1]),
    embed("input[0]", "got `float`", input=[1.5]),
    embed("input[0]", "got `bool`", input=[True]),
    embed("input[1][0]", "got `str`", input=[[1], ["a"]]),
    embed("input[0][1]", "<= 2147483647", input=[[1, 2**31]]),
    embed("model", "got `int`", model=5),
    embed("encoding_format", "Invalid enum value 'int8'", encoding_format="int8"),
    embed("encoding_format", "got `int`", encoding_format=1),
    embed("dimensions", ">= 1", dimensions=0),
    embed("dimensions", "got `str`", dimensions="8"),
    embed("user", "got `int`", user=5),
    embed("truncate_prompt_tokens", "at least 1, or -1", truncate_prompt_tokens=0),
    embed("truncate_prompt_tokens", ">= -1", truncate_prompt_tokens=-2),
    embed("truncate_prompt_tokens", "got `float`", truncate_prompt_tokens=1.5),
    embed("truncation_side", "only allowed with `truncate_prompt_tokens`", truncation_side="left"),
    embed("truncation_side", "Invalid enum value 'start'", truncation_side="start", truncate_prompt_tokens=1),
    embed("prompt_name", "can't be given together", prompt_name="a", input_type="query"),
    embed("prompt", "can't be given together", prompt="a: ", prompt_name="a"),
    embed("prompt", "length <= 131072", prompt="a" * 131073),
    embed("input_type", "length >= 1", input_type=""),
    embed("prompt_name", "got `array`", prompt_name=[]),
    embed("image_url", "got `int`", image_url=5),
    embed("image_url.url", "is missing", image_url={}),
    embed("image_url", "a picture for each of the 1 inputs, got 2", image_url=["data:image/png;base64,AA=="] * 2),
    embed("stream", "not supported", stream=True),
    embed("normalize", "not supported", normalize=False),
    embed("task", "not supported", task="retrieval.query"),
    embed("messages", "not supported", messages=[]),
]

TOGETHER = "`text_1` with `text_2`"

RERANK_AND_SCORE = [
    Bad({"documents": ["a"]}, "query", "`query` is missing", RERANK),
    Bad({"query": "q"}, "documents", "`documents` is missing", "/v2/rerank"),
    Bad({"query": "q", "texts": ["a"]}, "documents", "`documents` is missing", "/rerank"),
    rerank("documents", "is an empty list", documents=[]),
    rerank("documents", "got `str`", documents="a"),
    rerank("documents", "length <= 10000", documents=["a"] * 10_001),
    rerank("documents", "characters are allowed in all", query="q" * 9000, documents=["a"] * 2000),
    rerank("documents[0]", "got `int`", documents=[1]),
    rerank("documents[1].text", "is missing", documents=["a", {"title": "b"}]),
    rerank("query", "got `array`", query=["q"]),
    rerank("top_n", ">= 0", top_n=-1),
    rerank("top_n", "got `str`", top_n="3"),
    rerank("return_documents", "got `str`", return_documents="yes"),
    rerank("max_tokens_per_doc", ">= 1", max_tokens_per_doc=0),
    rerank("max_tokens_per_doc", "can't be given together", max_tokens_per_doc=9, truncate_prompt_tokens=9),
    rerank("truncate_prompt_tokens", "at least 1, or -1", truncate_prompt_tokens=0),
    rerank("truncation_side", "only allowed with", truncation_side="right"),
    rerank("instruction", "got `int`", instruction=1),
    rerank("rank_fields", "not supported", rank_fields=["title"]),
    rerank("raw_scores", "not supported", raw_scores=True),
    score("text_1", TOGETHER),
    score("text_1", TOGETHER, text_1="a"),
    score("text_2", TOGETHER, text_2="a"),
    score("text_2", TOGETHER, queries="a", text_2="b"),
    score("queries", "one too many", text_1="a", text_2="b", queries="c"),
    score("documents", "one too many", queries="a", items="b", documents="c"),
    score("text_1", "is an empty list", text_1=[], text_2="b"),
    score("text_2", "is an empty list", text_1="a", text_2=[]),
    score("text_2", "2 texts in `text_1` need as many here, got 1", text_1=["a", "b"], text_2="c"),
    score("text_2", "2 texts in `text_1` need as many here, got 3", text_1=["a", "b"], text_2=["c"] * 3),
    score("text_1", "got `int`", text_1=5, text_2="b"),
    score("text_2[0]", "got `array`", text_1="a", text_2=[[]]),
    score("activation", "not supported", text_1="a", text_2="b", activation=False),
]

NOT_FOR_SCRIPTED = [
    embed("dimensions", "the model has 8", dimensions=9),
    embed("image_url", "nor base64", image_url="no picture"),
    embed("image_url", "no type of image", image_url={"url": "data:audio/wav;base64,AAAA"}),
    embed("image_url[1]", "reads no file:// URLs", input=["a", "b"], image_url=[PIXEL, "file:///etc/passwd"]),
    embed(
        "image_url[16]",
        "at most 16 files",
        input=["a"] * 17,
        image_url=[f"http://127.0.0.1/{i}.png" for i in range(17)],
    ),
]
"""What a model with 8 dimensions that sees can't do."""
