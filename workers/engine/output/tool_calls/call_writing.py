"""How each family of models writes calls, as its template writes those of earlier turns: grammars ask for this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Writing:
    """One family's way to write calls. A block stands between a format's marks: `before`, a call, perhaps `between` and
    further calls, `after`; without a `between` each call has a block, with `blocks` between them.

    A call is `head`, arguments, `foot`. The arguments are a JSON object, or each stands between `key` and `value_end`:
    in tags, or as in Python, or in braces with strings between `quote`.

    In these texts `{name}`, `{key}`, `{type}` (of an argument) and `{string}` (whether it is one) have their values;
    `{index}` is a number, `{id}` nine letters, and `{nl}` a line break that may be left out.
    """

    head: str
    foot: str = ""
    before: str = ""
    between: str | None = None
    after: str = ""
    blocks: str = "\n"
    arguments: Literal["json", "tags", "python", "braces"] = "json"
    key: str = ""
    value_end: str = ""
    quote: str = ""


NAMED = Writing('{"name": "{name}", "arguments": ', "}", before="\n", after="\n")
COHERE_LIST = Writing(
    '{"tool_call_id": "{index}", "tool_name": "{name}", "parameters": ',
    "}",
    before="[\n    ",
    between=",\n    ",
    after="\n]",
)
LLAMA_OBJECT = Writing('{"name": "{name}", "parameters": ', "}", between="; ")
LLAMA4_OBJECTS = Writing('{"name": "{name}", "parameters": ', "}", between="")
DEEPSEEK_V31 = Writing("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>", "<｜tool▁call▁end｜>", between="")
DEEPSEEK_V3 = Writing(
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n", "\n```<｜tool▁call▁end｜>", between="\n"
)
KIMI_K2 = Writing(
    "<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>", "<|tool_call_end|>", between=""
)
MISTRAL = Writing("{name}[ARGS]", between="[TOOL_CALLS]")
MISTRAL_LIST = Writing('{"name": "{name}", "arguments": ', ', "id": "{id}"}', before=" [", between=", ", after="]")
"""Mistral's calls before version 11 of its tokenizers."""
QWEN = Writing(
    "<function={name}>\n",
    "</function>",
    before="\n",
    after="\n",
    arguments="tags",
    key="<parameter={key}>\n",
    value_end="\n</parameter>\n",
)
MINICPM5 = Writing('"{name}">', arguments="tags", key='<param name="{key}">', value_end="</param>")
KIMI_K3 = Writing(
    '<|open|>call tool="{name}" index="{index}"<|sep|>',
    "<|close|>call<|sep|>",
    between="",
    arguments="tags",
    key='<|open|>argument key="{key}" type="{type}"<|sep|>',
    value_end="<|close|>argument<|sep|>",
)
PYTHONIC = Writing("{name}(", ")", before="[", between=", ", after="]", arguments="python", key="{key}=")


def keys_and_values(prefix: str) -> Writing:
    """The calls of GLM and its kin; 4.7 leaves out the line breaks that 4.5 writes."""
    return Writing(
        "{name}{nl}",
        blocks="{nl}",
        arguments="tags",
        key=f"<{prefix}arg_key>{{key}}</{prefix}arg_key>{{nl}}<{prefix}arg_value>",
        value_end=f"</{prefix}arg_value>{{nl}}",
    )


def invoking(prefix: str, more: str = "") -> Writing:
    """Calls in tags `invoke` and `parameter`."""
    return Writing(
        f'<{prefix}invoke name="{{name}}">\n',
        f"</{prefix}invoke>",
        before="\n",
        between="\n",
        after="\n",
        arguments="tags",
        key=f'<{prefix}parameter name="{{key}}"{more}>',
        value_end=f"</{prefix}parameter>\n",
    )


def braced(quote: str) -> Writing:
    """Gemma's calls, in braces."""
    return Writing("call:{name}{", "}", blocks="", arguments="braces", key="{key}:", quote=quote)


DSML = invoking("｜DSML｜", ' string="{string}"')

WRITINGS: dict[str, Writing] = {
    "function_gemma": braced("<escape>"),
    "gemma4": braced('<|"|>'),
    "glm47": keys_and_values(""),
    "kimi_k2": KIMI_K2,
    "kimi_k3": KIMI_K3,
    "laguna": keys_and_values(""),
    "longcat": keys_and_values("longcat_"),
    "minicpm5": MINICPM5,
    "minimax_m2": invoking(""),
    "mistral": MISTRAL,
    "muse_spark": invoking("atem:"),
    "pythonic": PYTHONIC,
    "qwen3_coder": QWEN,
}
"""The writing of formats that mlx-lm names, by its names for them."""
