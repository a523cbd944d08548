"""What nobody knows, and what can't travel, at any depth of a body."""

import json
from typing import Any, Literal

import msgspec
import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.bounds import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES
from mlx_server.schemas.parsing.parse import parse
from mlx_server.schemas.parsing.unknown_fields import MAX_UNKNOWN

BREAKPOINT = {"prompt_cache_breakpoint": {"mode": "explicit"}}
HI = {"role": "user", "content": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _unknown(given: dict[str, Any], decoder: msgspec.json.Decoder[Any] = openai_chat.decoder) -> list[str]:
    return parse(json.dumps(given).encode(), decoder, HARMLESS)[1]


def _tool(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **more}}


@pytest.mark.parametrize(
    ("given", "unknown"),
    [
        ({"messages": [HI], "foo": 1}, ["foo"]),
        ({"messages": [{**HI, "foo": 1}]}, ["messages[0].foo"]),
        ({"messages": [HI, {**HI, "a": 1, "b": {"c": 1}}]}, ["messages[1].a", "messages[1].b"]),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "", "z": 0}]}
                ]
            },
            ["messages[0].content[1].z"],
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL, {**CALL, "index": 1, "number": 1}]}]},
            ["messages[0].tool_calls[1].number"],
        ),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "", "x": 1}}]},
            ["messages[0].function_call.x"],
        ),
        ({"messages": [HI], "tools": [_tool(), {**_tool(bar=1), "baz": 2}]}, ["tools[1].baz", "tools[1].function.bar"]),
        ({"messages": [HI], "functions": [{"name": "f", "bar": 1}]}, ["functions[0].bar"]),
        (
            {
                "messages": [HI],
                "tools": [_tool()],
                "tool_choice": {"type": "function", "function": {"name": "f", "q": 1}},
            },
            ["tool_choice.function.q"],
        ),
        (
            {"messages": [HI], "stream": True, "stream_options": {"reasoning_summary_delivery": "a"}},
            ["stream_options.reasoning_summary_delivery"],
        ),
        (
            {"messages": [HI], "prediction": {"content": [{"type": "text", "text": "a", "x": 1}], "y": 1}},
            ["prediction.y", "prediction.content[0].x"],
        ),
        (
            {
                "messages": [HI],
                "response_format": {"type": "json_schema", "json_schema": {"schema": {}, "x": 1}, "strict": True},
            },
            ["response_format.strict", "response_format.json_schema.x"],
        ),
        (
            {
                "messages": [{"role": "user", "content": [{"type": "text", "text": "a", **BREAKPOINT}]}],
                "prediction": {"type": "content", "content": [{"type": "text", "text": "a", **BREAKPOINT}]},
            },
            [],
        ),
        # LiteLLM's own part of a message, which it sends back.
        ({"messages": [{"role": "assistant", "content": "a", "provider_specific_fields": {"reasoning": "b"}}]}, []),
        ({"messages": [{**HI, "foo": 1}], "bar": 2}, ["messages[0].foo", "bar"]),
        ({"messages": [{**HI, "foo": None}], "bar": None}, []),
        ({"bar": 2, "messages": [{**HI, "foo": 1}]}, ["bar", "messages[0].foo"]),
        ({"messages": [{**HI, "a.b": 1, "c[0]": 1}]}, ["messages[0].a.b", "messages[0].c[0]"]),
    ],
    ids=str,
)
def test_unknown_fields_are_named_by_their_path(given: dict[str, Any], unknown: list[str]) -> None:
    assert _unknown(given) == unknown


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": {"b": [1]}}},
        {"logit_bias": {"5": 1}},
        {"tools": [_tool(parameters={"type": "object", "x-own": {"deep": [{"er": 1}]}})]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x-own": [{"a": 1}]}}}},
        {"guided_json": {"x-own": 1}},
        {"chat_template_args": {"enable_thinking": False, "documents": [{"title": "t"}]}},
        {"role_mapping": {"anything": "X: "}},
        {"store": False},
        {"tools": None, "messages": [{**HI, "tool_calls": None, "annotations": [{"url": "x"}]}]},
    ],
    ids=str,
)
def test_a_clients_own_keys_are_not_unknown(fields: dict[str, Any]) -> None:
    assert _unknown({"messages": [HI], **fields}) == []


def test_text_completions_know_their_own_fields() -> None:
    given = {"prompt": [[1], [2]], "messages": [HI], "echo": True, "stream_options": None}
    assert _unknown(given, openai_completions.decoder) == ["messages"]


def test_no_more_unknown_fields_are_named_than_anybody_reads() -> None:
    assert len(_unknown({"messages": [{**HI, "foo": 1, "bar": 2}] * 1000, "baz": 3})) == MAX_UNKNOWN
    assert len(_unknown({"messages": [HI], **{f"u{n}": 1 for n in range(1000)}})) == MAX_UNKNOWN


class _Leaf(msgspec.Struct, tag_field="kind", tag="leaf"):
    name: str


class _Branch(msgspec.Struct, tag_field="kind", tag="branch"):
    left: "_Leaf | _Branch"
    shown: bool = msgspec.field(default=True, name="isShown")


class _Tree(msgspec.Struct):
    root: _Leaf | _Branch
    by_name: dict[str, _Leaf] = {}
    mode: Literal["a"] = "a"


def test_tags_decide_what_is_known_and_types_may_hold_themselves() -> None:
    leaf = {"kind": "leaf", "name": "x"}
    branch = {"kind": "branch", "left": {**leaf, "isShown": 1}, "isShown": True, "shown": 1}
    given = {"root": {"kind": "branch", "left": branch, "name": "y"}, "by_name": {"k": {**leaf, "left": 1}}}
    assert _unknown(given, msgspec.json.Decoder(_Tree)) == [
        "root.name",
        "root.left.shown",
        "root.left.left.isShown",
        "by_name.k.left",
    ]


def _nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


FREE = [
    (lambda value: {"chat_template_args": {"a": value}}, "chat_template_args"),
    (lambda value: {"chat_template_kwargs": {"a": value}}, "chat_template_kwargs"),
    (lambda value: {"metadata": {"a": value}}, "metadata"),
    (lambda value: {"tools": [_tool(), _tool(name="g", parameters={"a": value})]}, "tools[1].function.parameters"),
    (lambda value: {"functions": [{"name": "f", "parameters": {"a": value}}]}, "functions[0].parameters"),
    (lambda value: {"guided_json": {"a": value}}, "guided_json"),
    (lambda value: {"guided_json": json.dumps({"a": value})}, "guided_json"),
    (lambda value: {"structured_outputs": {"json": {"a": value}}}, "structured_outputs.json"),
    (lambda value: {"structured_outputs": {"json": json.dumps({"a": value})}}, "structured_outputs.json"),
    (
        lambda value: {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": value}}}},
        "response_format.json_schema.schema",
    ),
    (lambda value: {"response_format": {"type": "json_object", "schema": {"a": value}}}, "response_format.schema"),
    (lambda value: {"messages": [HI, {**HI, "annotations": {"a": value}}]}, "messages[1].annotations"),
]


@pytest.mark.parametrize(("fields", "param"), FREE, ids=[str(n) for n in range(len(FREE))])
def test_free_json_has_its_bounds_wherever_it_stands(fields: Any, param: str) -> None:
    def generation(value: Any) -> Any:
        body = json.dumps({"messages": [HI], **fields(value)}).encode()
        return parse(body, openai_chat.decoder, HARMLESS)[0].to_generation(8)

    for fits in (_nested(MAX_DEPTH - 2), 2**64 - 1, -(2**63), 1.5e300, "9" * 5000):
        generation(fits)
    refused = {
        f"{MAX_DEPTH} levels": _nested(MAX_DEPTH - 1),
        "64 bits": 2**64,
        "into 64 bits": -(2**63) - 1,
        f"{MAX_VALUES} values": [0] * MAX_VALUES,
        f"{MAX_CHARACTERS} characters": "x" * (MAX_CHARACTERS + 1),
    }
    for what, value in refused.items():
        with pytest.raises(InvalidRequest, match=what) as caught:
            generation(value)
        assert caught.value.param == param
        assert f"`{param}`" in caught.value.message
