"""Calls in each model family's own syntax, taken from its parser, through the parser that the libraries have."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.markup import THINK, TOOLS, Read, read
from support.templates import with_template

from mlx_server.schemas.internal.generation import ToolUse
from mlx_server.workers.engine.output.marker_table import ResponseFormat
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.thinking import find_further_marks, starts_thinking
from mlx_server.workers.engine.output.tool_calls.markup import Called, VisibleText
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
    minimax_m3,
    tool_format,
)

OSLO = ("get_weather", {"city": "Oslo", "days": 3})
TIME = ("get_time", {})


def library(name: str) -> ToolFormat:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return library_format(module.parse_tool_call, module.tool_call_start, module.tool_call_end)


def xml(tag: str, name: str, city: str) -> str:
    return f'<{tag}invoke name="{name}">\n<{tag}parameter name="city">{city}</{tag}parameter>\n</{tag}invoke>\n'


KIMI_CALL = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
XTML = (
    '<|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Oslo<|close|>argument<|sep|>'
    '<|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|>'
)
GLM = (
    "get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
)
QWEN = (
    "\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n"
)
MINIMAX = (
    '\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n<parameter name="days">3</parameter>\n'
    '</invoke>\n<invoke name="get_time">\n</invoke>\n'
)
DSML_CALLS = (
    '\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    '<｜DSML｜invoke name="get_time">\n</｜DSML｜invoke>\n'
)
V3 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
M3 = "]<]minimax[>["

EXAMPLES: list[tuple[str, str, list[tuple[str, dict[str, Any]]]]] = [
    ("json_tools", '\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n', [OSLO]),
    ("function_gemma", "call:get_weather{city:<escape>Oslo<escape>,days:3}", [OSLO]),
    ("gemma4", 'call:get_weather{city:<|"|>Oslo<|"|>,days:3}', [OSLO]),
    ("glm47", GLM, [OSLO]),
    ("laguna", GLM, [OSLO]),
    (
        "kimi_k2",
        KIMI_CALL.format("get_weather", 0, json.dumps(OSLO[1])) + KIMI_CALL.format("get_time", 1, "{}"),
        [OSLO, TIME],
    ),
    ("kimi_k3", XTML, [OSLO]),
    ("longcat", GLM.replace("arg_", "longcat_arg_"), [OSLO]),
    ("minicpm5", '"get_weather"><param name="city">Oslo</param><param name="days">3</param>', [OSLO]),
    ("minimax_m2", MINIMAX, [OSLO, TIME]),
    ("mistral", "get_weather[ARGS]" + json.dumps(OSLO[1]), [OSLO]),
    ("mistral", f"get_weather[ARGS]{json.dumps(OSLO[1])}[TOOL_CALLS]get_time[CALL_ID]abc[ARGS]{{}}", [OSLO, TIME]),
    ("mistral", '[{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}, "id": "abc"}]', [OSLO]),
    ("muse_spark", MINIMAX.replace("<", "<atem:").replace("<atem:/", "</atem:"), [OSLO, TIME]),
    ("pythonic", '[get_weather(city="Oslo", days=3), get_time()]', [OSLO, TIME]),
    ("qwen3_coder", QWEN, [OSLO]),
    ("qwen3_coder", '\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n', [OSLO]),
]
FORMATS = [(library(name), body, calls) for name, body, calls in EXAMPLES] + [
    (DEEPSEEK, V3.format("get_weather", json.dumps(OSLO[1])) + "\n" + V3.format("get_time", "{}"), [OSLO, TIME]),
    (DEEPSEEK, V31.format("get_weather", json.dumps(OSLO[1])) + V31.format("get_time", "{}"), [OSLO, TIME]),
    (DSML, DSML_CALLS, [OSLO, TIME]),
    (
        minimax_m3(),
        f'\n{M3}<invoke name="get_weather">{M3}<city>Oslo{M3}</city>{M3}<days>3{M3}</days>{M3}</invoke>\n',
        [OSLO],
    ),
]
each_format = pytest.mark.parametrize(
    ("format_", "body", "calls"), FORMATS, ids=lambda value: getattr(value, "name", "")
)


def loaded(got: Read) -> list[tuple[str, Any]]:
    return [(name, json.loads(arguments)) for name, arguments in got.calls]


def test_every_parser_of_mlx_lm_has_an_example() -> None:
    folder = Path(importlib.import_module("mlx_lm.tool_parsers").__path__[0])
    assert {path.stem for path in folder.glob("[a-z]*.py")} == {name for name, _, _ in EXAMPLES}


@each_format
def test_calls_in_a_models_own_syntax(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    got = read(OutputFormat(format_, THINK), f"<think>Hm.</think>\n\nLook.\n{format_.start}{body}{format_.end}")
    assert loaded(got) == calls
    assert (got.thought, got.said, got.whole, got.complete) == ("Hm.", "Look.", len(calls), False)


@each_format
def test_one_call_only_completes_the_answer(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    text = f"{format_.start}{body}{format_.end}"
    got = read(OutputFormat(format_), text, use=ToolUse(parallel=False))
    assert (loaded(got), got.said, got.complete) == (calls[:1], "", True)


@each_format
def test_calls_without_their_end_mark_are_read(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    got = read(OutputFormat(format_), format_.start + body)
    assert [name for name, _ in got.calls] == [name for name, _ in calls]
    assert got.said == ""


@each_format
def test_calls_of_functions_that_were_not_offered_are_calls(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    renamed = body.replace("get_weather", "launch_rocket")
    got = read(OutputFormat(format_), f"{format_.start}{renamed}{format_.end}")
    assert [name for name, _ in got.calls] == [name.replace("get_weather", "launch_rocket") for name, _ in calls]
    assert (loaded(got)[0][1]["city"], got.whole, got.said) == ("Oslo", len(calls), "")
    assert read(OutputFormat(format_), f"{format_.start}{renamed}{format_.end}", tools=()).calls == []


@each_format
def test_text_cut_off_anywhere_gives_no_false_call(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    text = f"{format_.start}{body}{format_.end}"
    output_format = OutputFormat(format_)
    for end in range(1, len(text)):
        got = read(output_format, text[:end], cut=True, seeds=1)
        assert [name for name, _ in got.calls] == [name for name, _ in calls][: len(got.calls)], text[:end]
        for (_, arguments), (_, expected) in zip(got.calls, calls, strict=False):
            assert json.dumps(expected).startswith(arguments.removesuffix("}")), (text[:end], arguments)


@each_format
def test_text_that_ends_early_has_whole_arguments(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    text = f"{format_.start}{body}{format_.end}"
    output_format = OutputFormat(format_)
    for end in range(1, len(text)):
        got = read(output_format, text[:end], seeds=1)
        assert got.whole == len(got.calls)
        assert all(isinstance(arguments, dict) for _, arguments in loaded(got)), text[:end]


@each_format
def test_nonsense_between_the_marks_is_text(format_: ToolFormat, body: str, calls: list[Any]) -> None:
    text = f"{format_.start}I do not know.{format_.end}"
    got = read(OutputFormat(format_, THINK), text)
    assert (got.calls, got.said) == ([], text)
    got = read(OutputFormat(format_, THINK), f"<think>So {format_.start} it is.</think>Yes.")
    assert (got.calls, got.said, got.thought) == ([], "Yes.", f"So {format_.start} it is.")


def test_arguments_stream_as_they_are_written() -> None:
    markup = OutputFormat(library("qwen3_coder")).markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    said = [markup.feed(text) for text in ("<tool_call>\n<function=get_weather>\n<parameter=city>\nOs", 'l"o\n', "!\n")]
    assert said == [
        [Called(0, "", "get_weather"), Called(0, '{"city": '), Called(0, '"Os')],
        [Called(0, 'l\\"o')],
        [Called(0, "\\n!")],
    ]
    assert markup.feed("</parameter>\n") == []
    assert markup.feed("<parameter=days>\n3\n</parameter>\n</function>") == [
        Called(0, '"'), Called(0, ', "days": '), Called(0, "3"), Called(0, "}")
    ]  # fmt: skip
    assert markup.calls == 1
    markup = OutputFormat(library("mistral")).markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    assert markup.feed("[TOOL_CALLS]get_weather[ARGS]{") == [Called(0, "", "get_weather"), Called(0, "{")]


@pytest.mark.parametrize(
    "parsed",
    [None, 5, [], [5], {}, {"name": 5}, {"name": ""}, "no JSON", {"name": "get_time", "arguments": {b"a": 1}}, [[[]]]],
)
def test_odd_answers_of_parsers_are_no_calls(parsed: Any) -> None:
    got = read(OutputFormat(ToolFormat("odd", "<a>", "</a>", lambda *_: parsed)), "<a>body</a>")
    assert (got.calls, got.said) == ([], "<a>body</a>")


@pytest.mark.parametrize(
    ("parsed", "arguments"),
    [
        ({"name": "get_time"}, "{}"),
        ({"name": " get_time ", "arguments": None}, "{}"),
        ({"name": "get_time", "arguments": '{"a": 1}'}, '{"a": 1}'),
        ({"name": "get_time", "arguments": "{'a': 1,}"}, '{"a": 1}'),
        ({"function": {"name": "get_time", "parameters": {"a": "é"}}}, '{"a": "é"}'),
        ({"function": "get_time", "arguments": {}}, "{}"),
        ('[{"name": "get_time", "arguments": {}}]', "{}"),
        ({"name": "get_time", "arguments": {"a": {1}}}, '{"a": "{1}"}'),
    ],
)
def test_answers_of_parsers_are_made_regular(parsed: Any, arguments: str) -> None:
    got = read(OutputFormat(ToolFormat("odd", "<a>", "</a>", lambda *_: parsed)), "<a>body</a>")
    assert got.calls == [("get_time", arguments)]


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError, AttributeError, ZeroDivisionError])
def test_parsers_that_raise_give_text(error: type[Exception]) -> None:
    def parse(_text: str, _tools: Any) -> Any:
        raise error

    got = read(OutputFormat(ToolFormat("odd", "<a>", "</a>", parse)), "<a>body</a> and more")
    assert (got.calls, got.said) == ([], "<a>body</a> and more")


HARMONY_CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo", "days": 3}'


@pytest.mark.parametrize("end", ["", "<|call|>", "<|call|><|start|>assistant"])
def test_harmony_channels(end: str) -> None:
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Look.<|end|>"
        f"<|start|>assistant{HARMONY_CALL}{end}"
    )
    got = read(OutputFormat(HARMONY), text)
    assert (got.thought, got.said, loaded(got), got.whole) == ("Hm.", "Look.", [OSLO], 1)


@pytest.mark.parametrize(
    ("lead", "end", "said"),
    [
        ("", "", ""),
        ("", "<|python_end|>", ""),
        ("<|python_start|>", "<|python_end|>", ""),
        ("<|python_start|>\n", "", ""),
        ("<|python_start|><|python_end|>", "", ""),
        ("<|python_start|>Look.<|python_end|>", "", "Look."),
    ],
)
def test_llama_4_calls_stand_between_its_marks_behind_them_or_alone(lead: str, end: str, said: str) -> None:
    calls = '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}{"name": "get_time", "parameters": {}}'
    got = read(OutputFormat(LLAMA4), lead + calls + end)
    assert (loaded(got), got.said) == ([OSLO, TIME], said)
    got = read(OutputFormat(LLAMA4), f"{lead}Yes.{end}")
    assert (got.calls, got.said) == ([], f"{said}Yes.")
    assert read(OutputFormat(LLAMA4), lead + calls + end, tools=()).said == said + calls


def test_harmony_messages_on_one_channel_stand_apart() -> None:
    thought = "<|start|>assistant<|channel|>analysis<|message|>{}<|end|>"
    text = "".join(map(thought.format, ("Hm.", "", "So.")))
    text += "<|start|>assistant<|channel|>commentary<|message|>One.<|end|>" + thought.format("And.")
    text += "<|start|>assistant<|channel|>final<|message|>Two.\n<|end|><|channel|>final<|message|><|return|>"
    got = read(OutputFormat(HARMONY), text)
    assert (got.thought, got.said, got.order) == ("Hm.\n\nSo.\n\nAnd.", "One.\n\nTwo.\n", "tsts")
    got = read(OutputFormat(HARMONY), f"Hm.<|end|>{thought.format('So.')}", starts_thinking=True)
    assert got.thought == "Hm.\n\nSo."


def test_harmony_recipient_in_the_role_and_final_answers() -> None:
    text = "<|start|>assistant to=functions.get_time<|channel|>commentary json<|message|><|call|>"
    assert read(OutputFormat(HARMONY), text).calls == [("get_time", "{}")]
    final = (
        "<|channel|>analysis<|message|>a < b<|end|><|start|>assistant<|channel|>final<|message|>Yes <| no.<|return|>"
    )
    got = read(OutputFormat(HARMONY), final)
    assert (got.thought, got.said) == ("a < b", "Yes <| no.")
    assert read(OutputFormat(HARMONY), "A plain answer.").said == "A plain answer."
    cut = read(OutputFormat(HARMONY), HARMONY_CALL[:-7], cut=True)
    assert (cut.calls, cut.whole) == ([("get_weather", '{"city": "Oslo", "da')], 0)
    assert read(OutputFormat(HARMONY), HARMONY_CALL, tools=()).said == '{"city": "Oslo", "days": 3}'


def test_muse_spark_messages_by_mlx_lms_transitions() -> None:
    spec = importlib.import_module("mlx_lm.chat_templates.muse_spark").RESPONSE_FORMAT
    output_format = OutputFormat(
        library("muse_spark"), None, ResponseFormat(spec["transitions"], spec["initial_state"])
    )
    calls = EXAMPLES[13][1]
    text = (
        "to=self<|message|>Hm.<|eom|>\n<|start|>assistant to=get_weather<|message|>"
        f"<atem:function_calls>{calls}</atem:function_calls><|eom|><|start|>assistant to=user<|message|>Done.<|eot|>"
    )
    got = read(output_format, text)
    assert (got.thought, got.said, loaded(got)) == ("Hm.", "Done.", [OSLO, TIME])
    assert read(output_format, "No header.").said == "No header."


def test_kimi_k3_structure_is_not_said() -> None:
    output_format = OutputFormat(
        library("kimi_k3"), THINK, ResponseFormat(structural=("<|open|>response<|sep|>", "<|close|>response<|sep|>"))
    )
    got = read(output_format, "<|open|>response<|sep|>Yes.<|close|>response<|sep|>")
    assert got.said == "Yes."


def tokenizer(template: Any, vocab: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        tool_parser=None, chat_template=template, get_vocab=lambda: {token: i for i, token in enumerate(vocab)}
    )


@pytest.mark.parametrize(
    ("template", "vocab", "expected"),
    [
        (None, (), HERMES),
        ("{{ messages }}", (), HERMES),
        ("", ("<|channel|>", "<|message|>", "<|call|>"), HARMONY),
        ("", ("｜DSML｜",), DSML),
        ("<｜tool▁calls▁begin｜>", (), DEEPSEEK),
        ("<|START_ACTION|>", (), COHERE),
        ('{"name": function name, "parameters": ...}', ("<|python_tag|>",), LLAMA),
        ('{"name": function name, "parameters": ...}', ("<|python_start|>", "<|python_end|>"), LLAMA4),
        ({"default": "", "tool_use": "<tool_call> tool_call.name"}, (), HERMES),
    ],
)
def test_formats_that_mlx_lm_does_not_infer(template: Any, vocab: tuple[str, ...], expected: ToolFormat) -> None:
    assert tool_format(tokenizer(template, vocab)) is expected


def test_formats_by_template_of_several_and_by_mlx_vlm() -> None:
    several = {"default": "x", "tool_use": "[TOOL_CALLS]"}
    assert tool_format(tokenizer(several)).name == "mistral"
    assert tool_format(tokenizer("]<]minimax[>[<tool_call>")).name == "minimax_m3"


def test_smollm2_is_told_to_write_hermes(smollm2: Path) -> None:
    from mlx_lm.utils import load_tokenizer

    loaded_tokenizer = load_tokenizer(smollm2)
    output_format = OutputFormat.of(loaded_tokenizer)
    assert (output_format.format, output_format.thinking) == (HERMES, None)
    assert output_format.mark_tokens(loaded_tokenizer, calls=True) == frozenset()
    assert output_format.speaking(HERMES) is output_format
    assert output_format.speaking(LLAMA).format is LLAMA


COHERES = ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_ACTION|>")


def test_coheres_reasoning_is_told_apart_and_its_structure_not_said(smollm2: Path) -> None:
    tokenizer = with_template(smollm2, "<|START_THINKING|> <|START_ACTION|>", COHERES)
    assert starts_thinking(tokenizer, tokenizer.encode("<|START_THINKING|>")) is False
    find_further_marks(tokenizer)
    assert starts_thinking(tokenizer, tokenizer.encode("<|START_THINKING|>")) is True
    output_format = OutputFormat.of(tokenizer)
    answer = "<|START_RESPONSE|>Yes.<|END_RESPONSE|>"
    assert read(output_format, answer).said == "Yes."
    got = read(output_format, f"<|START_THINKING|>Hm.<|END_THINKING|>{answer}")
    assert (got.thought, got.said) == ("Hm.", "Yes.")
    call = '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_time", "parameters": {}}]<|END_ACTION|>'
    got = read(output_format, f"Hm.<|END_THINKING|>{call}", starts_thinking=True)
    assert (got.thought, loaded(got), got.said) == ("Hm.", [TIME], "")
    thinks = with_template(smollm2, None, ("<think>", "</think>", *COHERES))
    find_further_marks(thinks)
    assert thinks.think_start == "<think>"


def test_special_tokens_inside_marks_are_named() -> None:
    special = SimpleNamespace(all_special_tokens=["<|im_end|>", "[TOOL_CALLS]", "[ARGS]"], all_special_ids=[2, 9, 11])
    assert OutputFormat(library("mistral")).mark_tokens(special, calls=True) == {9, 11}


def test_text_between_pieces_of_calls_keeps_its_order() -> None:
    markup = OutputFormat(library("pythonic")).markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    pieces = markup.feed("A<|tool_call_start|>[get_time()]<|tool_call_end|>B")
    assert pieces == [VisibleText("A"), Called(0, "", "get_time"), Called(0, "{}"), VisibleText("B")]
