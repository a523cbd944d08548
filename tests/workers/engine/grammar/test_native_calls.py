"""Grammars of calls in each family's own notation: whatever they allow, the family's reader reads as those calls."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from support.inputs.call_walks import CallWalks
from support.markup import Read, through

from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.tool_calls.tool_formats import (
    COHERE,
    DEEPSEEK,
    DSML,
    HARMONY,
    HERMES,
    LLAMA,
    LLAMA4,
    ToolFormat,
    as_template_writes,
    library_format,
    minimax_m3,
)

SHORT = {"type": "string", "maxLength": 6}
EDIT = Tool(
    "edit",
    parameters={
        "type": "object",
        "properties": {
            "path": SHORT,
            "line": {"type": "integer", "minimum": 0, "maximum": 99},
            "mode": {"enum": ["a b", "r/w", None]},
            "mark": {"anyOf": [{"type": "string", "pattern": "^[a-c]{1,3}$"}, {"type": "null"}], "default": None},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
            "all": {"type": "boolean"},
            "more": {
                "type": ["string", "object"],
                "maxLength": 5,
                "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}},
                "additionalProperties": False,
            },
        },
        "required": ["path", "mode"],
        "$defs": {"tag": SHORT},
    },
    strict=True,
)
TIME = Tool("get_time")
OPEN = Tool(
    "set_any",
    parameters={
        "type": "object",
        "properties": {"a": SHORT},
        "required": ["a"],
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 2,
    },
)
DIFFERENT = Tool(
    "label",
    parameters={
        "type": "object",
        "properties": {"names": {"type": "array", "items": SHORT, "uniqueItems": True, "minItems": 1, "maxItems": 3}},
        "required": ["names"],
    },
    strict=True,
)
TOOLS = (EDIT, TIME)
SCHEMAS = {tool.name: tool.parameters or {"maxProperties": 0} for tool in (EDIT, TIME, OPEN, DIFFERENT)}
ONE = ToolUse("required", parallel=False)


def library(name: str) -> ToolFormat:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)


CALL = {"path": "a\n b", "line": 3}
QWEN_CALL = (
    "<tool_call>\n<function=edit>\n<parameter=path>\na\n b\n</parameter>\n<parameter=line>\n3\n</parameter>\n"
    "<parameter=mode>\nr/w\n</parameter>\n</function>\n</tool_call>"
)
INVOKED = (
    '\n<{0}invoke name="edit">\n<{0}parameter name="path"{1}>a\n b</{0}parameter>\n<{0}parameter name="line"{2}>3'
    '</{0}parameter>\n<{0}parameter name="mode"{1}>r/w</{0}parameter>\n</{0}invoke>\n'
)
JSON_CALL = '{"path": "a\\n b", "line": 3, "mode": "r/w"}'
GLM_CALL = (
    "edit\n<{0}arg_key>path</{0}arg_key>\n<{0}arg_value>a\n b</{0}arg_value>\n<{0}arg_key>line</{0}arg_key>\n"
    "<{0}arg_value>3</{0}arg_value>\n<{0}arg_key>mode</{0}arg_key>\n<{0}arg_value>r/w</{0}arg_value>\n"
)
XTML = (
    '<|open|>call tool="edit" index="0"<|sep|><|open|>argument key="path" type="string"<|sep|>a\n b<|close|>argument'
    '<|sep|><|open|>argument key="line" type="number"<|sep|>3<|close|>argument<|sep|><|open|>argument key="mode" '
    'type="string"<|sep|>r/w<|close|>argument<|sep|><|close|>call<|sep|>'
)
V3 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>edit\n```json\n" + JSON_CALL + "\n```<｜tool▁call▁end｜>"

FAMILIES: dict[str, tuple[ToolFormat, str]] = {
    "hermes": (HERMES, f'\n{{"name": "edit", "arguments": {JSON_CALL}}}\n'),
    "llama": (LLAMA, f'{{"name": "edit", "parameters": {JSON_CALL}}}'),
    "llama4": (LLAMA4, f'{{"name": "edit", "parameters": {JSON_CALL}}}'),
    "cohere": (COHERE, f'[\n    {{"tool_call_id": "0", "tool_name": "edit", "parameters": {JSON_CALL}}}\n]'),
    "deepseek_v3": (as_template_writes(DEEPSEEK, "```json"), V3),
    "deepseek_v31": (DEEPSEEK, f"<｜tool▁call▁begin｜>edit<｜tool▁sep｜>{JSON_CALL}<｜tool▁call▁end｜>"),
    "dsml": (DSML, INVOKED.format("｜DSML｜", ' string="true"', ' string="false"')),
    "harmony": (HARMONY, f"functions.edit <|constrain|>json<|message|>{JSON_CALL}"),
    "function_gemma": (
        library("function_gemma"),
        "call:edit{path:<escape>a\n b<escape>,line:3,mode:<escape>r/w<escape>}",
    ),
    "gemma4": (library("gemma4"), 'call:edit{path:<|"|>a\n b<|"|>,line:3,mode:<|"|>r/w<|"|>}'),
    "glm45": (library("glm47"), GLM_CALL.format("")),
    "glm47": (library("glm47"), GLM_CALL.format("").replace("\n<", "<").removesuffix("\n")),
    "longcat": (library("longcat"), GLM_CALL.format("longcat_")),
    "kimi_k2": (
        library("kimi_k2"),
        f"<|tool_call_begin|>functions.edit:0<|tool_call_argument_begin|>{JSON_CALL}<|tool_call_end|>",
    ),
    "kimi_k3": (library("kimi_k3"), XTML),
    "minicpm5": (
        library("minicpm5"),
        '"edit"><param name="path">a\n b</param><param name="line">3</param><param name="mode">r/w</param>',
    ),
    "minimax_m2": (library("minimax_m2"), INVOKED.format("", "", "")),
    "minimax_m3": (minimax_m3(), f'\n{{"name": "edit", "arguments": {JSON_CALL}}}\n'),
    "mistral": (library("mistral"), f"edit[ARGS]{JSON_CALL}"),
    "mistral_list": (
        as_template_writes(library("mistral"), "[TOOL_CALLS]"),
        f' [{{"name": "edit", "arguments": {JSON_CALL}, "id": "abcdefghi"}}]',
    ),
    "muse_spark": (library("muse_spark"), INVOKED.format("atem:", "", "")),
    "pythonic": (library("pythonic"), '[edit(path="a\\n b", line=3, mode="r/w")]'),
    "qwen3_coder": (library("qwen3_coder"), QWEN_CALL.removeprefix("<tool_call>").removesuffix("</tool_call>")),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, CallWalks]]:
    """Marks are special tokens, or plain text."""
    marks = dict.fromkeys(mark for format_, _ in FAMILIES.values() for mark in format_.marks)
    # In these families' tokenizers only parts of their marks are tokens.
    parts = ("<|open|>", "<|close|>", "<|sep|>", "<｜tool▁call▁end｜>", "｜DSML｜")
    special = [mark for mark in (*marks, *parts) if mark in parts or not any(part in mark for part in parts)]
    special = [mark for mark in special if " " not in mark]
    folder = tmp_path_factory.mktemp("walks")
    made = {True: CallWalks(folder / "special", (*special, "<|channel|>")), False: CallWalks(folder / "plain")}
    yield made
    for each in made.values():
        each.vocabulary.close()


def whole(format_: ToolFormat, body: str) -> str:
    """A call with its marks."""
    if format_ is HARMONY:
        return format_.start + body
    return body if format_.bare else f"{format_.start}{body}{format_.end}"


def read(format_: ToolFormat, text: str, tools: tuple[Tool, ...], use: ToolUse) -> Read:
    """What a family's reader makes of a text; every call's arguments are valid."""
    got = through(OutputFormat(format_).markup(Speech(tools, use, hermes=False), starts_thinking=False), [text])
    assert got.whole == len(got.calls), text
    for name, arguments in got.calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    return got


@each_family
def test_calls_are_written_in_the_models_own_form(walks: dict[bool, CallWalks], family: str) -> None:
    format_, body = FAMILIES[family]
    text = whole(format_, body)
    for special in (True,) if format_ is HARMONY else (True, False):
        for use in (ToolUse("required"), ToolUse()):
            matcher, ignored = walks[special].matcher(format_, TOOLS, use)
            assert (walks[special].takes(matcher, text), ignored) == (True, ()), text
            assert not walks[special].takes(matcher, text.replace("r/w", "best"))
            assert not walks[special].takes(matcher, text.replace("edit", "find"))
    got = read(format_, text, TOOLS, ToolUse())
    assert [(name, json.loads(arguments)) for name, arguments in got.calls] == [("edit", {**CALL, "mode": "r/w"})]


@each_family
@pytest.mark.parametrize("tools", [TOOLS, (OPEN, DIFFERENT)], ids=["listed", "open"])
def test_whatever_is_written_is_read_as_valid_calls(
    walks: dict[bool, CallWalks], family: str, tools: tuple[Tool, ...]
) -> None:
    format_, _ = FAMILIES[family]
    for special in (True,) if format_ is HARMONY else (True, False):
        for use in (ToolUse("required"), ONE):
            matcher, _ = walks[special].matcher(format_, tools, use)
            texts = [text for seed in range(3) if (text := walks[special].written(matcher, seed)) is not None]
            assert texts
            for text in texts:
                got = read(format_, text, tools, use)
                assert got.said == ""
                assert 1 <= len(got.calls) <= (16 if use.parallel else 1)


@each_family
def test_text_may_stand_before_a_call_that_need_not_be_made(walks: dict[bool, CallWalks], family: str) -> None:
    format_, body = FAMILIES[family]
    matcher, _ = walks[True].matcher(format_, TOOLS, ToolUse())
    text = whole(format_, body)
    if format_ is HARMONY:
        said, mixed = f"{FINAL}Hello.", f"{ASIDE}Look.{AGAIN}{text}"
    else:
        said, mixed = "Hello.", f"Look.\n{text}"
    assert walks[True].takes(matcher, said)
    assert walks[True].takes(matcher, mixed)
    assert not walks[True].takes(matcher, text.replace("edit", "find"))
    assert not walks[True].takes(matcher, said + format_.start + "x")


FINAL, ASIDE = "<|channel|>final<|message|>", "<|channel|>commentary<|message|>"
AGAIN = "<|end|><|start|>assistant"


def test_content_or_a_call_in_the_models_own_form(walks: dict[bool, CallWalks]) -> None:
    content = Grammar("regex", "[a-z]+", "f")
    for family in ("qwen3_coder", "harmony", "llama"):
        format_, body = FAMILIES[family]
        matcher, _ = walks[True].matcher(format_, TOOLS, ToolUse(), content)
        lead = FINAL if format_ is HARMONY else ""
        assert walks[True].takes(matcher, f"{lead}abc")
        assert walks[True].takes(matcher, whole(format_, body))
        assert not walks[True].takes(matcher, f"{lead}ABC")


PATCH = Grammar(
    "lark",
    'start: "*** Begin" LF line+ "*** End" LF?\nline: ("+" | "-") /(.*)/ LF -> line\n%import common.LF',
    "tools[1].format.definition",
)
DIGITS = Grammar("regex", "[0-9]+(\n[0-9]+)*", "tools[1].format.definition")


QWEN_PATCH = "<tool_call>\n<function=patch>\n<parameter=input>\n{}\n</parameter>\n</function>\n</tool_call>"


def custom(text: Grammar) -> tuple[Tool, ...]:
    schema: dict[str, Any] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return TIME, Tool("patch", parameters={**schema, "additionalProperties": False}, text=text)


@pytest.mark.parametrize(
    ("family", "call", "exact"),
    [
        ("qwen3_coder", QWEN_PATCH, True),
        ("glm45", "<tool_call>patch\n<arg_key>input</arg_key>\n<arg_value>{}</arg_value>\n</tool_call>", True),
        ("gemma4", '<|tool_call>call:patch{{input:<|"|>{}<|"|>}}<tool_call|>', True),
        ("hermes", '<tool_call>\n{{"name": "patch", "arguments": {{"input": "{}"}}}}\n</tool_call>', False),
        ("pythonic", '<|tool_call_start|>[patch(input="{}")]<|tool_call_end|>', False),
    ],
)  # fmt: skip
def test_a_custom_tools_text_is_what_its_grammar_allows(
    walks: dict[bool, CallWalks], family: str, call: str, exact: bool
) -> None:
    format_, _ = FAMILIES[family]
    for text, good, bad in (
        (PATCH, "*** Begin\n+a <b>\n-\n*** End", "*** Begin\na\n*** End"),
        (DIGITS, "12\n3", "12\n"),
    ):
        good, bad = (each if exact else json.dumps(each)[1:-1] for each in (good, bad))
        for special in (True, False):
            matcher, ignored = walks[special].matcher(format_, custom(text), ToolUse())
            assert ignored == ()
            assert walks[special].takes(matcher, call.format(good))
            assert not walks[special].takes(matcher, call.format(bad))
            assert walks[special].takes(matcher, "Just text.")
        got = through(
            OutputFormat(format_).markup(Speech(custom(text), ToolUse(), hermes=False), starts_thinking=False),
            [call.format(good)],
        )
        assert json.loads(got.calls[0][1]) == {"input": good if exact else json.loads(f'"{good}"')}


@pytest.mark.parametrize(
    ("family", "definition"),
    [("qwen3_coder", "start: gone"), ("hermes", "start: gone"), ("hermes", 'start: A\nA: /[a-z]+/ & ~"end"')],
)
def test_a_custom_tools_grammar_that_can_not_be_used_is_told(
    walks: dict[bool, CallWalks], family: str, definition: str
) -> None:
    grammar = Grammar("lark", definition, "tools[1].format.definition")
    _, ignored = walks[True].matcher(FAMILIES[family][0], custom(grammar), ToolUse())
    assert ignored == ("tools[1].format",)
