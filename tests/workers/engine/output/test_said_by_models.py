"""What models of every family say: the same kinds of calls in each family's notation, wherever the text is cut."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.inputs.said import SCHEMAS
from support.markup import THINK, Read, cuts, read, through

from mlx_server.schemas.internal.generation import Tool, ToolUse
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.tool_calls.loose_json import (
    FUNCTION_GEMMA,
    GEMMA4,
    JSON,
    PYTHON,
    LooseJson,
    Notation,
)
from mlx_server.workers.engine.output.tool_calls.tool_formats import (
    COHERE,
    DEEPSEEK,
    DSML,
    HARMONY,
    HERMES,
    LLAMA,
    LLAMA4,
    ToolFormat,
    library_format,
)

TOOLS = tuple(Tool(name, parameters=schema) for name, schema in SCHEMAS.items())
Arguments = dict[str, str]
"""Texts by name: this is what all families can write."""


@dataclass(frozen=True)
class Family:
    """A family: how it writes a call, what joins several, and whether several go into one block."""

    format: ToolFormat
    call: Callable[[str, Arguments], str]
    join: str = "\n"
    one_block: bool = True
    typed: bool = False
    """A value's type is told by its schema."""

    def write(self, *calls: tuple[str, Arguments]) -> str:
        bodies = [self.call(name, arguments) for name, arguments in calls]
        if self.format is HARMONY:
            return "<|start|>assistant".join(bodies)
        if not self.one_block:
            return "\n".join(f"{self.format.start}{body}{self.format.end}" for body in bodies)
        return f"{self.format.start}{self.join.join(bodies)}{self.format.end}"


def library(name: str) -> ToolFormat:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)


def as_json(head: str, tail: str = "") -> Callable[[str, Arguments], str]:
    return lambda name, arguments: head.replace("NAME", name) + json.dumps(arguments, ensure_ascii=False) + tail


def tagged(head: str, argument: str, tail: str) -> Callable[[str, Arguments], str]:
    def call(name: str, arguments: Arguments) -> str:
        written = "".join(argument.replace("KEY", key).replace("VALUE", value) for key, value in arguments.items())
        return head.replace("NAME", name) + written + tail

    return call


def braced(quote: str) -> Callable[[str, Arguments], str]:
    def call(name: str, arguments: Arguments) -> str:
        return f"call:{name}{{{','.join(f'{key}:{quote}{value}{quote}' for key, value in arguments.items())}}}"

    return call


def python(name: str, arguments: Arguments) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def glm(prefix: str) -> Callable[[str, Arguments], str]:
    key, value = f"{prefix}arg_key", f"{prefix}arg_value"
    return tagged("NAME\n", f"<{key}>KEY</{key}>\n<{value}>VALUE</{value}>\n", "")


def invoke(prefix: str, more: str = "") -> Callable[[str, Arguments], str]:
    parameter = f'<{prefix}parameter name="KEY"{more}>VALUE</{prefix}parameter>\n'
    return tagged(f'\n<{prefix}invoke name="NAME">\n', parameter, f"</{prefix}invoke>")


CODER = tagged("\n<function=NAME>\n", "<parameter=KEY>\nVALUE\n</parameter>\n", "</function>\n")
XTML = tagged(
    '<|open|>call tool="NAME" index="1"<|sep|>',
    '<|open|>argument key="KEY" type="string"<|sep|>VALUE<|close|>argument<|sep|>',
    "<|close|>call<|sep|>",
)
NAMED = as_json('{"name": "NAME", "arguments": ', "}")
KIMI = as_json("<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>", "<|tool_call_end|>")
V31 = as_json("<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>", "<｜tool▁call▁end｜>")
V3 = as_json("<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n", "\n```<｜tool▁call▁end｜>")
CHANNEL = as_json("<|channel|>commentary to=functions.NAME<|constrain|>json<|message|>", "<|call|>")

FAMILIES = {
    "hermes": Family(HERMES, NAMED),
    "llama": Family(LLAMA, as_json('{"name": "NAME", "parameters": ', "}"), "; "),
    "llama4": Family(LLAMA4, as_json('{"name": "NAME", "parameters": ', "}"), ""),
    "cohere": Family(COHERE, as_json('{"tool_name": "NAME", "parameters": ', "}"), ", "),
    "deepseek_v3": Family(DEEPSEEK, V3),
    "deepseek_v31": Family(DEEPSEEK, V31, ""),
    "dsml": Family(DSML, invoke("｜DSML｜", ' string="true"')),
    "harmony": Family(HARMONY, CHANNEL),
    "function_gemma": Family(library("function_gemma"), braced("<escape>")),
    "gemma4": Family(library("gemma4"), braced('<|"|>'), ""),
    "glm47": Family(library("glm47"), glm(""), one_block=False, typed=True),
    "laguna": Family(library("laguna"), glm(""), one_block=False, typed=True),
    "longcat": Family(library("longcat"), glm("longcat_"), one_block=False, typed=True),
    "kimi_k2": Family(library("kimi_k2"), KIMI, ""),
    "kimi_k3": Family(library("kimi_k3"), XTML, ""),
    "minicpm5": Family(
        library("minicpm5"), tagged('"NAME">', '<param name="KEY">VALUE</param>', ""), one_block=False, typed=True
    ),
    "minimax_m2": Family(library("minimax_m2"), invoke(""), typed=True),
    "mistral": Family(library("mistral"), as_json("NAME[ARGS]"), "[TOOL_CALLS]"),
    "muse_spark": Family(library("muse_spark"), invoke("atem:"), typed=True),
    "pythonic": Family(library("pythonic"), python, ", "),
    "qwen3_coder": Family(library("qwen3_coder"), CODER, typed=True),
}
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
typed_family = pytest.mark.parametrize(
    "family", [family for family in FAMILIES.values() if family.typed], ids=[n for n, f in FAMILIES.items() if f.typed]
)
TRICKY = [
    "",
    " leading and trailing ",
    "line1\nline2\n",
    "\n\n",
    'He said "hi", ok',
    "it's",
    "D:\\dir\\new",
    "\\d+\n\\",
    "NULL",
    "None",
    "123",
    "true",
    '{"mode": "CLEAN"}',
    "[1",
    "<think>no</think>",
    "a </tool_call> b",
    "</parameter> and </function> and <parameter=x>\n1\n</parameter>",
    "<tool_call>\n<function=other>\n<parameter=city>\nOslo\n</parameter>\nx",
    "</arg_value> x",
    "```\n<|call|>x",
    "é 🦄 \u2028",
]


def loaded(got: Read) -> list[tuple[str, Any]]:
    return [(name, json.loads(arguments)) for name, arguments in got.calls]


def said(family: Family, text: str, **more: Any) -> Read:
    return read(OutputFormat(family.format, THINK), text, tools=TOOLS, seeds=3, **more)


@each_family
def test_strings_come_as_they_were_meant(family: Family) -> None:
    for value in TRICKY:
        arguments = {"path": value, "body": value}
        got = said(family, family.write(("write", arguments)))
        assert (loaded(got), got.said, got.whole) == ([("write", arguments)], "", 1)


@each_family
def test_several_calls_all_come(family: Family) -> None:
    calls: list[Any] = [("list", {}), ("write", {"path": "a"}), ("launch", {"path": "b"}), ("write", {"body": "c"})]
    got = said(family, family.write(*calls))
    assert (loaded(got), got.said, got.whole) == (calls, "", 4)


@each_family
def test_no_call_comes_where_none_is_wanted(family: Family) -> None:
    got = said(family, family.write(("write", {"path": "a"})), use=ToolUse("none"))
    assert got.calls == []
    assert "path" in got.said


@each_family
def test_marks_in_prose_and_in_code_are_text(family: Family) -> None:
    if family.format is HARMONY:
        pytest.skip("its marks are tokens that are in no prose")
    start, end = family.format.start, family.format.end
    for text in (f"BEGIN `{start}` and `{end}` END", f"```\n{family.write(('write', {'path': 'a'}))}\n```\nSo."):
        got = said(family, text)
        assert (got.said, got.calls) == (text, [])


@each_family
def test_a_call_right_behind_a_fence_that_ends_a_block_is_a_call(family: Family) -> None:
    if family.format is HARMONY:
        pytest.skip("its calls are messages of their own")
    before = "Run:\n```bash\nls\n```"
    got = said(family, before + family.write(("write", {"path": "a"})))
    assert (loaded(got), got.said) == ([("write", {"path": "a"})], before)


@each_family
def test_text_round_calls_is_said(family: Family) -> None:
    if family.format is HARMONY or not family.format.end:
        pytest.skip("text has no place there")
    got = said(family, f"Before.\n{family.write(('list', {}))}\nAfter.")
    assert (loaded(got), got.said) == ([("list", {})], "Before.\n\nAfter.")


@each_family
@pytest.mark.parametrize("cut", [False, True])
def test_a_call_that_ends_early_is_open_only_if_it_was_cut(family: Family, cut: bool) -> None:
    text = family.write(("write", {"path": "a.txt", "body": "line1\nline2"}))
    got = said(family, text[: text.index("line2")], cut=cut)
    [(name, arguments)] = got.calls
    if cut:
        assert (name, got.whole) == ("write", 0)
        assert '"a.txt"' in arguments.replace("'", '"')
    else:
        assert json.loads(arguments)["body"].strip() == "line1"
        assert got.whole == 1


@typed_family
@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [
        ("count", "3", 3),
        ("count", " 3 ", 3),
        ("count", "3.0", 3),
        ("count", "3.5", "3.5"),
        ("count", "None", "None"),
        ("count", "10 lines", "10 lines"),
        ("count", "", ""),
        ("count", "NaN", "NaN"),
        ("opt", "123", "123"),
        ("opt", "null", None),
        ("opt", "nullify", "nullify"),
        ("opt", "[1]", "[1]"),
        ("any", '{"a": [1]}', {"a": [1]}),
        ("any", "{ not JSON", "{ not JSON"),
        ("any", "plain", "plain"),
    ],
)
def test_values_are_of_their_schemas_types_or_raw(family: Family, key: str, written: str, meant: Any) -> None:
    got = said(family, family.write(("write", {key: written, "path": "a"})))
    assert loaded(got) == [("write", {key: meant, "path": "a"})]


@typed_family
def test_closing_tags_may_be_missing(family: Family) -> None:
    tags: Any = family.format.body
    text = family.write(("write", {"path": "a", "body": "b"}), ("list", {}))
    at = text.rindex(tags.argument_end)
    without = text[:at] + text[at + len(tags.argument_end) :]
    got = said(family, without)
    assert [name for name, _ in got.calls] == ["write", "list"]
    assert [value.strip() for value in loaded(got)[0][1].values()] == ["a", "b"]
    cut_short = said(family, text[:at])
    assert loaded(cut_short)[0] == ("write", {"path": "a", "body": "b"})


@pytest.mark.parametrize(
    ("name", "body", "calls"),
    [
        ("kimi_k2", "functions.list:0<|tool_call_argument_begin|>ls -a<|tool_call_end|>", [("list", "ls -a")]),
        ("kimi_k2", "functions.list:0<|tool_call_argument_begin|><|tool_call_end|>", [("list", "{}")]),
        ("mistral", "list[ARGS]ls -a", [("list", "ls -a")]),
        ("pythonic", '[list("a")]', [("list", '("a")]')]),
        ("pythonic", "[list(a='x' 'y', b=1)]", [("list", '{"a": "x\' \'y", "b": 1}')]),
        ("qwen3_coder", "\n<function=list>\nls -a\n</function>\n", [("list", "ls -a")]),
        ("qwen3_coder", '\n<function=list>\n{"a": 1,}\n</function>\n', [("list", '{"a": 1}')]),
        ("qwen3_coder", '\n<function=list>{"a": 1}</function>', [("list", '{"a": 1}')]),
        ("glm47", "list ls -a", [("list", "ls -a")]),
        ("glm47", 'list\n{"a": 1}', [("list", '{"a": 1}')]),
        ("kimi_k3", KIMI_JSON := '<|open|>call tool="list" index="1"<|sep|><|open|>json type="object"<|sep|>'
         '{"a": 1}<|close|>json<|sep|><|close|>call<|sep|>', [("list", '{"a": 1}')]),
        ("minicpm5", '"write"><param name="path"><![CDATA[a < b & </param>c]]></param>',
         [("write", '{"path": "a < b & </param>c"}')]),
    ],
)  # fmt: skip
def test_arguments_in_other_shapes_are_passed_on(name: str, body: str, calls: list[Any]) -> None:
    family = FAMILIES[name]
    got = said(family, family.format.start + body + family.format.end)
    assert (got.calls, got.said, got.whole) == (calls, "", 1)


ESCAPE, QUOTE = "<escape>", '<|"|>'


@pytest.mark.parametrize(
    ("name", "body", "calls"),
    [
        (
            "pythonic",
            "[write(path='a', body='line1\nline2', count=3, opt=None, any=[True, {'b': 1.5}]), launch(path=\"x\\ny\")]",
            [
                ("write", {"path": "a", "body": "line1\nline2", "count": 3, "opt": None, "any": [True, {"b": 1.5}]}),
                ("launch", {"path": "x\ny"}),
            ],
        ),
        (
            "pythonic",
            '[write(path="1, 2", body="if a:\n\treturn b(c=\'d\')\n", any=("e", 2)), list()]',
            [("write", {"path": "1, 2", "body": "if a:\n\treturn b(c='d')\n", "any": ["e", 2]}), ("list", {})],
        ),
        (
            "pythonic",
            '[write(path=\'3\', body="""a\n"b"\n""", any={"c": true, "d": null}), write(count=-4)]',
            [("write", {"path": "3", "body": 'a\n"b"\n', "any": {"c": True, "d": None}}), ("write", {"count": -4})],
        ),
        (
            "function_gemma",
            f"call:write{{path:{ESCAPE}a}}b, c:{{d}}{ESCAPE},any:[1,{ESCAPE}x}}{ESCAPE},true],count:2}}",
            [("write", {"path": "a}b, c:{d}", "any": [1, "x}", True], "count": 2})],
        ),
        (
            "function_gemma",
            f"call:write{{any:{{a:{ESCAPE}}}{ESCAPE},b:[{{c:null}}]}},path:{ESCAPE}p{ESCAPE}}}call:list{{}}",
            [("write", {"any": {"a": "}", "b": [{"c": None}]}, "path": "p"}), ("list", {})],
        ),
        (
            "gemma4",
            f"call:write{{file-name:{QUOTE}a-b:c{QUOTE},x.y:1,opt:None,any:{{e-f:[None,True,{QUOTE}None{QUOTE}]}}}}",
            [("write", {"file-name": "a-b:c", "x.y": 1, "opt": None, "any": {"e-f": [None, True, "None"]}})],
        ),
        (
            "gemma4",
            f"call:my-server.do_it{{path:{QUOTE}}}{QUOTE}}}call:write{{count:-1.5e3,body:{QUOTE}\n{{{QUOTE}}}",
            [("my-server.do_it", {"path": "}"}), ("write", {"count": -1500.0, "body": "\n{"})],
        ),
    ],
    ids=[
        "pythonic_line_break",
        "pythonic_commas",
        "pythonic_long_string",
        "function_gemma_list",
        "function_gemma_object",
        "gemma4_names",
        "gemma4_braces",
    ],
)
def test_values_are_those_that_the_model_wrote(name: str, body: str, calls: list[Any]) -> None:
    family = FAMILIES[name]
    got = said(family, family.format.start + body + family.format.end)
    assert (loaded(got), got.said, got.whole) == (calls, "", len(calls))


@pytest.mark.parametrize(
    ("name", "body", "calls"),
    [
        ("pythonic", "[list('a', \"b\nc\"), launch(path='d')]", [("list", "('a', \"b\nc\"), launch(path='d')]")]),
        ("function_gemma", "call:list ls -a", [("list", "ls -a")]),
        ("gemma4", "call:list(ls -a)", [("list", "(ls -a)")]),
    ],
    ids=["pythonic", "function_gemma", "gemma4"],
)
def test_what_is_no_argument_list_is_passed_on_and_not_lost(name: str, body: str, calls: list[Any]) -> None:
    family = FAMILIES[name]
    got = said(family, family.format.start + body + family.format.end)
    assert (got.calls, got.said, got.whole) == (calls, "", 1)


def test_tags_behind_an_object_are_text() -> None:
    call = '<tool_call>\n<function=list>{"a": 1}<parameter=b>\n2\n</parameter>\n</function>\n</tool_call>'
    got = said(FAMILIES["qwen3_coder"], call)
    assert loaded(got) == [("list", {"a": 1})]
    assert got.said.startswith("<parameter=b>")


def test_a_call_of_qwens_needs_no_mark_round_it() -> None:
    family = FAMILIES["qwen3_coder"]
    call = CODER("write", {"path": "a"}).strip()
    for text in (call, f"{call}\n</tool_call>"):
        got = said(family, f"Look.\n{text}")
        assert (loaded(got), got.said) == ([("write", {"path": "a"})], "Look.")
    assert said(family, call.replace("write", "other")).said == call.replace("write", "other")


EDGES = sorted({mark for family in FAMILIES.values() for mark in (family.format.start, family.format.end) if mark})
WORDS = st.sampled_from(
    [
        *EDGES, '"', "'", "\\", "\n", " ", "{", "}", "[", "]", ",", ":", "=", "(", ")", "a", "1", "\\n", "\\u12", "C:",
        "null", "True", "<", "é", "</parameter>", "<parameter=path>", "<parameter=x>", "</function>",
        "<function=write>",
        '"name": "write"', '{"name": "list"', '"arguments": ', "<think>", "</think>", "```", "`", "list", "call:list",
        '<|"|>', "<escape>", "<|tool_call_argument_begin|>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
        "[ARGS]", "functions.list:0",
    ]
)  # fmt: skip


@each_family
@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORDS, max_size=14), lead=st.booleans(), seed=st.integers(0, 99))
def test_nonsense_is_the_same_however_it_is_cut(family: Family, words: list[str], lead: bool, seed: int) -> None:
    text = (family.format.start if lead else "") + "".join(words)
    for cut in (False, True):
        got = []
        for pieces in ([text], cuts(text, seed), list(text)):
            markup = OutputFormat(family.format, THINK).markup(
                Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False
            )
            got.append(through(markup, pieces, cut=cut))
        assert got[0] == got[1] == got[2]
        assert cut or got[0].whole == len(got[0].calls)
        for _, arguments in got[0].calls if not cut else ():
            assert not arguments.startswith("{") or isinstance(json.loads(arguments), dict)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def mended(text: str, sizes: list[int], notation: Notation = JSON, ends: tuple[str, str] = ("", "")) -> str:
    value, out, at, turn = LooseJson(notation, ends), "", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        out += value.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    return out + value.finish()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), VALUES), st.booleans(), st.sampled_from([None, 2]), SIZES)
def test_json_is_passed_on_as_it_is(value: Any, ascii_only: bool, indent: int | None, sizes: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert mended(text, sizes) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=20), SIZES, st.sampled_from([JSON, PYTHON, GEMMA4, FUNCTION_GEMMA]), st.booleans())
def test_whatever_is_written_becomes_json(words: list[str], sizes: list[int], notation: Notation, marked: bool) -> None:
    text = notation.opener + "".join(words)
    ends = ("</tool_call>", "<tool_call>") if marked else ("", "")
    whole = mended(text, [len(text)], notation, ends)
    json.loads(whole)
    assert mended(text, sizes, notation, ends) == whole
