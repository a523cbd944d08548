"""Reasoning, Hermes' calls and visible text, wherever the text is cut."""

from __future__ import annotations

import json
import random
import time

import pytest
from support.markup import CLOCK, THINK, TOOLS, WEATHER, Read, cuts, gathered, read, through

from mlx_server.schemas.internal.generation import ToolUse
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.tool_calls.markup import Called, PlainText
from mlx_server.workers.engine.output.tool_calls.tool_formats import COHERE, HERMES, LLAMA

PLAIN = OutputFormat(HERMES)
THINKS = OutputFormat(HERMES, THINK)
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>'
ARGUMENTS = '{"city": "Oslo", "days": 3}'


@pytest.mark.parametrize("text", ["Hello, world!\n", "  a < b, a <t", "\n\n x \n\n y \n ", "<tool_", "", " "])
def test_text_without_marks_is_said_as_it_is(text: str) -> None:
    assert read(THINKS, text) == Read(said=text, order="s" if text else "")


def test_reasoning_is_told_apart_without_the_space_round_it() -> None:
    got = read(THINKS, "<think>\nHm, 1 < 2.\n\nYes.\n</think>\n\nIt is.\n")
    assert (got.thought, got.said, got.order) == ("Hm, 1 < 2.\n\nYes.", "It is.\n", "ts")


def test_reasoning_that_the_prompt_has_opened_ends_at_its_mark() -> None:
    got = read(THINKS, "\nHm.\n</think>\n\nYes.", starts_thinking=True)
    assert (got.thought, got.said) == ("Hm.", "Yes.")


def test_reasoning_opened_twice_is_opened_once() -> None:
    assert read(THINKS, "<think>\nHm.</think>Yes.", starts_thinking=True).thought == "Hm."


def test_unfinished_reasoning_stays_reasoning() -> None:
    got = read(THINKS, "<think>\nHm, </thi")
    assert (got.thought, got.said) == ("Hm, </thi", "")


def test_a_stray_end_of_reasoning_is_text_once_something_is_said() -> None:
    assert read(THINKS, "Yes.</think>\n\nNo.").said == "Yes.</think>\n\nNo."
    assert read(THINKS, "</think>\n\nNo.").said == "No."
    assert read(THINKS, "<think>Hm.</think>\n</think>\nNo.").said == "No."


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN `<think>` AFTER END",
        "BEGIN <think>no</think> END",
        "BEGIN `<tool_call>` and `</tool_call>` AFTER END",
        f"Like so:\n```\n{'{}'}\n```\n".format('<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'),
        'Write `<tool_call>{"name": "get_time", "arguments": {}}</tool_call>` to call.',
        "The mark <tool_call> begins a call.",
        "~~~ xml\n<think>\n~~~",
    ],
)
def test_marks_out_of_their_place_are_text(text: str) -> None:
    assert read(THINKS, text) == Read(said=text, order="s")
    assert read(THINKS, f"<think>Hm.</think>{text}") == Read(text, "Hm.", order="ts")


def test_code_that_has_ended_hides_no_call() -> None:
    assert read(PLAIN, f"```\n<tool_call>\n```\n`a` and ``b`` `c\n{CALL}").calls == [("get_weather", ARGUMENTS)]


@pytest.mark.parametrize(
    "before",
    [
        "Set the ` key. ",
        "Set the `` key, ``not` this. ",
        "```markdown\n# x\n```bash\nls\n```\n```\n\n",
        "````markdown\n```bash\nls\n```\n````\n",
        "```bash\nls\n",
        "~~~\n```\nls\n",
    ],
)
def test_a_call_behind_code_that_is_never_closed_is_a_call(before: str) -> None:
    call = CALL.replace("\n", " ")
    for text in (call, f"{call}\n{call}"):
        got = read(THINKS, before + text)
        assert (got.said.strip(), got.calls) == (before.strip(), [("get_weather", ARGUMENTS)] * text.count('{"name'))
    got = read(THINKS, f"<think>Hm.\n{before}{call}", starts_thinking=True)
    assert (got.thought.strip(), len(got.calls)) == (f"Hm.\n{before}".strip(), 1)


def test_code_of_the_reasoning_is_closed_in_the_reasoning() -> None:
    got = read(THINKS, f"<think>```\n<tool_call>\n</think>\n\n{CALL}\n```\n")
    assert (got.thought, got.calls) == ("```\n<tool_call>", [("get_weather", ARGUMENTS)])


@pytest.mark.parametrize("text", [f"```\n{CALL}\n```", f"See ```{CALL[:11]}` ```.", f"```md\n```xml\n{CALL}\n```\nSo."])
def test_calls_in_code_that_is_closed_later_are_text(text: str) -> None:
    assert read(PLAIN, text) == Read(said=text, order="s")
    got = read(PLAIN, f"{text}\n```\n\n{CALL}" if "md" in text else f"{text}\n\n{CALL}")
    assert got.calls == [("get_weather", ARGUMENTS)]


def test_text_in_front_of_a_doubtful_mark_is_not_held_back() -> None:
    markup = PLAIN.markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    assert gathered(markup.feed("Write `<tool_call> now")).said == "Write `"
    assert gathered(markup.feed("` and")).said == "<tool_call> now` and"
    assert gathered(markup.feed("\n`<tool_call>")).said == "\n`"
    assert gathered(markup.flush(cut=True)).said == "<tool_call>"


def test_marks_in_code_that_is_not_closed_are_read_in_no_time() -> None:
    began = time.perf_counter()
    for before in ("```\n", "The ` key: "):
        got = read(PLAIN, before + "<tool_call>" * 2000, seeds=1)
        assert len(got.said) == len(before) + 22000
    assert time.perf_counter() - began < 10


def test_marks_in_the_reasoning_are_reasoning() -> None:
    assert read(THINKS, "<think>The mark <think> opens.</think>Yes.").thought == "The mark <think> opens."
    call = '<tool_call>{"name": "launch_rocket", "arguments": {}}</tool_call>'
    got = read(THINKS, f"<think>Not {call}, no.</think>Yes.")
    assert (got.thought, got.said, got.calls) == (f"Not {call}, no.", "Yes.", [])


def test_thinking_is_true_inside_the_reasoning_only() -> None:
    markup = THINKS.markup(Speech((), ToolUse(), hermes=False), starts_thinking=False)
    states = []
    for text in ("<think>", "Hm.", "</think>", "Yes."):
        states.append(markup.thinking)
        markup.feed(text)
    assert states == [False, True, True, False]


def test_call_is_read_and_its_text_is_not_said() -> None:
    got = read(PLAIN, f"Let me look.\n\n{CALL}\n")
    assert got == Read("Let me look.", "", [("get_weather", ARGUMENTS)], "snc", whole=1)


def test_arguments_stream_as_they_are_written() -> None:
    markup = PLAIN.markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    assert markup.feed('<tool_call>{"name": "get_weather"') == [Called(0, "", "get_weather")]
    assert markup.feed(', "arguments": {"ci') == [Called(0, '{"ci')]
    assert markup.feed('ty": "Os') == [Called(0, 'ty": "Os')]
    assert markup.calls == 0
    assert markup.feed('lo"}}') == [Called(0, 'lo"}')]
    assert (markup.calls, markup.complete) == (1, False)


def test_several_calls_are_numbered_and_the_text_between_is_said() -> None:
    second = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
    got = read(PLAIN, f"{CALL}\n{second}\n")
    assert got.calls == [("get_weather", ARGUMENTS), ("get_time", "{}")]
    assert (got.said, got.whole) == ("", 2)
    assert read(PLAIN, f"One.\n{CALL}\nTwo.\n{second}").said == "One.\n\nTwo."


@pytest.mark.parametrize("join", ["\n", ", ", "", "; "])
def test_several_calls_in_one_block(join: str) -> None:
    one = '{"name": "get_time", "arguments": {}}'
    assert read(PLAIN, f"<tool_call>{one}{join}{one}</tool_call>").whole == 2
    assert read(PLAIN, f"<tool_call>[{one}, {one}]</tool_call>").calls == [("get_time", "{}")] * 2


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"city": "Oslo"}, "name": "get_weather"}', '{"city": "Oslo"}'),
        ('{"name": "get_weather", "parameters": {"city":"Oslo"}}', '{"city":"Oslo"}'),
        (r'{"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}', '{"city": "Oslo"}'),
        (r'{"arguments": "{\"city\": \"Oslo\"}", "name": "get_weather"}', '{"city": "Oslo"}'),
        ('{"name": "get_weather"}', "{}"),
        ('{"name": "get_weather", "arguments": null}', "{}"),
        ('{"name": "get_weather", "arguments": ""}', "{}"),
        ('{"id": 7, "name": "get_weather", "x": [{"name": 1}], "arguments": { "city" : "a" } }', '{ "city" : "a" }'),
        ('{"type": "function", "function": {"name": "get_weather", "arguments": {"a": 1}}}', '{"a": 1}'),
        (r'{"name": "get_weather", "arguments": {"a": "\"}\\", "b": ["</tool_call>"]}}', None),
        ('{"name": "get_weather", "arguments": {"a": 1}', '{"a": 1}'),
        ('{"name": "get_weather", "arguments": {"a": 1}}}', '{"a": 1}'),
    ],
)
def test_bodies_of_many_shapes_are_calls(body: str, arguments: str | None) -> None:
    got = read(PLAIN, f"<tool_call>\n{body}\n</tool_call>")
    expected = arguments or json.dumps({"a": '"}\\', "b": ["</tool_call>"]})
    assert got == Read("", "", [("get_weather", expected)], "nc", whole=1)


@pytest.mark.parametrize(
    "body",
    [
        "no JSON at all",
        '"a string"',
        "42",
        "[]",
        '{"arguments": {"city": "Oslo"}}',
        '{"name": 5, "arguments": {}}',
        '{"name": "John Smith", "age": 5}',
        "{",
        "}",
        "",
    ],
)
def test_a_block_without_a_name_is_said(body: str) -> None:
    text = f"<tool_call>\n{body}\n</tool_call>"
    assert read(PLAIN, text) == Read(said=text, order="s")


@pytest.mark.parametrize(
    ("body", "name", "arguments"),
    [
        ('{"name": "launch_rocket", "arguments": {"a": 1}}', "launch_rocket", '{"a": 1}'),
        ("{'name': 'get_time', 'arguments': {'a': True, 'b': 'it's'}}", "get_time", '{"a": true, "b": "it\'s"}'),
        ('{"name": "get_weather", "city": "Oslo", "id": 1}', "get_weather", '{"city": "Oslo"}'),
        ('{"name": "get_weather", "arguments": "Oslo"}', "get_weather", "Oslo"),
        ('{"name": "get_weather", "arguments": Oslo}', "get_weather", "Oslo"),
        ('{"name": "get_weather", "arguments": {"city": Oslo, "days": 3,}}', "get_weather", None),
        (
            '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3',
            "get_weather",
            '{"city": "Oslo", "days": 3\n}',
        ),
        (
            '{"name": "get_weather", "arguments": {city: "Oslo" "days": 3',
            "get_weather",
            '{"city": "Oslo\\" \\"days\\": 3\\n"}',
        ),
        ('{"name": "get_weather" "city" is Oslo}', "get_weather", '"city" is Oslo}'),
    ],
)
def test_a_call_with_a_name_is_a_call_whatever_its_arguments(body: str, name: str, arguments: str | None) -> None:
    got = read(PLAIN, f"<tool_call>\n{body}\n</tool_call>")
    assert got == Read("", "", [(name, arguments or ARGUMENTS)], "nc", whole=1)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("line1\nline2\ttab", "line1\nline2\ttab"),
        (r"D:\dir\new", r"D:\dir\new"),
        (r"C:\new\table.txt", r"C:\new\table.txt"),
        ("C:\\dir\\", "C:\\dir\\"),
        (r"C:\\new", r"C:\new"),
        (r"src\utils\new.py", r"src\utils\new.py"),
        (r"\d+\.\d*", r"\d+\.\d*"),
        (r"\d+\\b\bx", r"\d+\b\bx"),
        (r"re.match('\d+')\nprint()", "re.match('\\d+')\nprint()"),
        (r"a \u00e9 \ud83e\udd84 \ud83e \users", "a é 🦄 \ufffd \\users"),
        (r"it\'s", "it's"),
        ('say "hi" now', 'say "hi" now'),
        ("</tool_call>", "</tool_call>"),
        ("a </tool_call> b <tool_call>", "a </tool_call> b <tool_call>"),
        ("A:\\nThe", "A:\nThe"),
        (r"C:\new\utils\fix", r"C:\new\utils\fix"),
        (r"C:\tools\dir (x86)\new", r"C:\tools\dir (x86)\new"),
    ],
)
def test_strings_are_mended_while_they_stream(written: str, meant: str) -> None:
    got = read(PLAIN, f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{written}"}}}}\n</tool_call>')
    assert [json.loads(arguments) for _, arguments in got.calls] == [{"city": meant}]
    assert (got.said, got.whole) == ("", 1)


@pytest.mark.parametrize(
    "value",
    [
        'x:\nprint("hi", "yo")\n',
        "Q:\nwhat is it?\nA:\nnothing",
        "C:\nfoo",
        "B:\tfoo",
        "A:\rb",
        "Q:\nuse node.js.\nA:\nno",
        "x:\nuse\nself.b\n",
        "A:\u2028b",
    ],
)
def test_json_that_begins_like_a_path_is_passed_on_as_it_is(value: str) -> None:
    for text in (json.dumps({"city": value}), json.dumps({"city": value}).replace("A:", "A:\\/")):
        got = read(PLAIN, f'<tool_call>\n{{"name": "get_weather", "arguments": {text}}}\n</tool_call>')
        assert got.calls == [("get_weather", text)]


def test_a_good_call_after_a_bad_one_is_read() -> None:
    got = read(PLAIN, f"<tool_call>oops</tool_call>\n{CALL}")
    assert (got.said, got.calls) == ("<tool_call>oops</tool_call>", [("get_weather", ARGUMENTS)])


def test_a_call_cut_off_after_its_name_gives_what_there_is() -> None:
    got = read(PLAIN, CALL[: CALL.index("Os") + 2], cut=True)
    assert (got.calls, got.whole, got.said) == ([("get_weather", '{"city": "Os')], 0, "")


def test_a_call_that_ends_early_of_itself_is_closed() -> None:
    got = read(PLAIN, CALL[: CALL.index("Os") + 2])
    assert (got.calls, got.whole, got.said) == ([("get_weather", '{"city": "Os"}')], 1, "")


def test_a_call_cut_off_before_its_name_is_said() -> None:
    for cut in (False, True):
        got = read(PLAIN, '<tool_call>\n{"name": "get_wea', cut=cut)
        assert (got.said, got.calls) == ('<tool_call>\n{"name": "get_wea', [])


def test_string_arguments_cut_off_give_what_they_hold() -> None:
    got = read(PLAIN, r'<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Os', cut=True)
    assert (got.calls, got.whole) == ([("get_weather", '{"city": "Os')], 0)


@pytest.mark.parametrize("end", ["", "\n", "\n</tool", "</tool_call>"])
def test_a_whole_call_needs_no_end_mark(end: str) -> None:
    got = read(PLAIN, CALL.removesuffix("\n</tool_call>") + end)
    assert (got.said, got.whole) == ("", 1)


def test_one_call_only_completes_the_answer() -> None:
    markup = PLAIN.markup(Speech(TOOLS, ToolUse(parallel=False), hermes=False), starts_thinking=False)
    got = through(markup, cuts(f"{CALL}\n{CALL}\nMore.", 0))
    assert (got.said, got.calls, got.complete) == ("", [("get_weather", ARGUMENTS)], True)


def test_calls_that_are_not_allowed_are_text() -> None:
    assert read(PLAIN, CALL, tools=()).said == CALL
    assert read(THINKS, CALL, use=ToolUse("none")).said == CALL
    assert isinstance(PLAIN.markup(Speech((), ToolUse(), hermes=False), starts_thinking=False), PlainText)


def test_a_call_inside_the_reasoning_is_a_call() -> None:
    got = read(THINKS, f"<think>I must look.\n{CALL}")
    assert (got.thought, got.calls) == ("I must look.", [("get_weather", ARGUMENTS)])


def test_reasoning_about_calls_stays_reasoning() -> None:
    got = read(THINKS, "<think>The mark <tool_call> begins a call, </tool_call> ends it.</think>\n\nRight.")
    assert (got.said, got.calls) == ("Right.", [])
    assert got.thought == "The mark <tool_call> begins a call, </tool_call> ends it."


@pytest.mark.parametrize("lead", ["", "\n", "<|python_tag|>"])
def test_llama_calls_without_marks_are_read(lead: str) -> None:
    output_format = OutputFormat(LLAMA)
    one = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'
    got = read(output_format, f"{lead}{one}; {one}")
    assert (got.said, got.calls) == ("", [("get_weather", '{"city": "Oslo"}')] * 2)
    assert read(output_format, '{"answer": 42}').said == '{"answer": 42}'
    assert read(output_format, f"See: {one}").said == f"See: {one}"


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ('{"name": "launch_rocket", "parameters": {"a": 1}}', True),
        ('{"parameters": {"a": 1}, "name": "launch_rocket"}', True),
        ('{"name": "launch_rocket"}', False),
        ('{"name": "Alice", "age": 3}', False),
        ('{"name": "John Smith", "parameters": {}}', False),
        ('{"name": "get_time"}', True),
    ],
)
def test_json_without_marks_is_a_call_by_a_known_name_or_by_its_shape(text: str, called: bool) -> None:
    got = read(OutputFormat(LLAMA), text)
    assert (bool(got.calls), got.said) == (called, "" if called else text)


def test_cohere_actions_are_read() -> None:
    text = (
        "<|START_ACTION|>[\n"
        '    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Oslo"}},\n'
        '    {"tool_call_id": "1", "tool_name": "get_time", "parameters": {}}\n]<|END_ACTION|>'
    )
    assert read(OutputFormat(COHERE), text).calls == [("get_weather", '{"city": "Oslo"}'), ("get_time", "{}")]


def random_json(rng: random.Random, depth: int = 0) -> object:
    """Any JSON, with marks and brackets in its strings."""
    kind = rng.randrange(7 if depth < 3 else 4)
    if kind == 0:
        return rng.choice(["", "a", '"', "\\", "</tool_call>", "<tool_call>", "{[", "]}", "é\n\t", "\\u00e9"])
    if kind < 4:
        return rng.choice([None, True, -1.5e7, 42])
    if kind < 5:
        return [random_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {str(random_json(rng, 3)): random_json(rng, depth + 1) for _ in range(rng.randrange(4))}


@pytest.mark.parametrize("seed", range(60))
def test_random_calls_come_back_exactly(seed: int) -> None:
    rng = random.Random(seed)
    said, text, expected = "", "<think>\nHm.\n</think>\n\n", []
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.5:
            said += "Text. "
            text += "Text. "
        arguments = {f"k{i}": random_json(rng) for i in range(rng.randrange(4))}
        dumped = json.dumps(arguments, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 2]))
        name = rng.choice((WEATHER, CLOCK)).name
        parts = [f'"name": "{name}"', f'"{rng.choice(("arguments", "parameters"))}": {dumped}']
        if rng.random() < 0.3:
            parts.reverse()
        expected.append((name, dumped))
        text += f"<tool_call>\n{{{', '.join(parts)}}}\n</tool_call>\n"
    got = read(THINKS, text, seeds=6)
    assert got.calls == expected
    assert got.whole == len(expected)
    assert (got.thought, got.said.split()) == ("Hm.", said.split())


@pytest.mark.parametrize("seed", range(40))
def test_nonsense_never_raises_nor_depends_on_its_cuts(seed: int) -> None:
    rng = random.Random(seed)
    bits = [
        "<tool_call>", "</tool_call>", "<think>", "</think>", '{"name": "get_time"', ', "arguments": ', "{}", "}", "{",
        '"', "\\", "[", "]", " ", "\n", "word", ",", ":", '{"arguments": "{}', '"name": "get_weather"', "<", "null",
    ]  # fmt: skip
    text = "".join(rng.choice(bits) for _ in range(rng.randrange(1, 40)))
    for cut in (False, True):
        got = read(THINKS, text, cut=cut, seeds=6)
        assert cut or got.whole == len(got.calls)


def test_the_common_path_costs_microseconds() -> None:
    markup = THINKS.markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False)
    words = [" word", "s,", " and", " numbers", " 1", "<", "2"] * 1000
    fed = []
    started = time.perf_counter()
    for word in words:
        fed += markup.feed(word)
    per_feed = (time.perf_counter() - started) / len(words)
    assert gathered([*fed, *markup.flush()]).said == "".join(words)
    # Measured 2 µs; a shared machine may be ten times slower at any moment.
    assert per_feed < 100e-6
