"""Grammars that force calls, with a real tokenizer: whatever they allow is read back as the calls they ask for."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher
from support.markup import Read, through

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.workers.engine.grammar.call_forms import Callee
from mlx_server.workers.engine.grammar.call_grammars import CallGrammars
from mlx_server.workers.engine.grammar.tool_grammar import (
    arguments_schema,
    callable_tools,
    enforced,
    enforced_arguments,
    special_tokens,
    tool_grammar,
)
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.tool_calls.tool_formats import HERMES, ToolFormat

SEARCH = Tool(
    "search",
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "maxLength": 12},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50},
            "order": {"enum": ["new", "old", None]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 3},
        },
        "required": ["query", "order"],
        "$defs": {"tag": {"type": "string", "maxLength": 4}},
    },
    strict=True,
)
PLACE = Tool(
    "set-place.v2",
    parameters={
        "type": "object",
        "properties": {
            "at": {
                "type": "object",
                "properties": {"x": {"type": "number"}, "deep": {"type": "boolean"}},
                "required": ["x"],
                "additionalProperties": False,
            }
        },
        "required": ["at"],
    },
)
STOP = Tool("stop")
TOOLS = (SEARCH, PLACE, STOP)
SCHEMAS = {tool.name: tool.parameters or {"type": "object", "maxProperties": 0} for tool in TOOLS}
FOREIGN = ToolFormat("other", "[CALLS]", "[/CALLS]", lambda text, _: json.loads(text))


class Writer:
    """Writes what a grammar allows, at random, with a leaning to what ends something."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer, len(tokenizer))
        self.special = special_tokens(tokenizer, self.vocabulary)
        texts = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._closing = np.array([text[:1] in '"}],<0Ċ' for text in texts])

    def grammar(
        self, use: ToolUse, tools: tuple[Tool, ...] = TOOLS, content: Grammar | None = None, native: ToolFormat = HERMES
    ) -> LLMatcher:
        callees = [
            Callee(index, tool, enforced_arguments(index, tool).schema) for index, tool in callable_tools(tools, use)
        ]
        source = tool_grammar(native, callees, use, content, self.special).source
        matcher = LLMatcher(self.vocabulary.tokens, source, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def write(self, matcher: LLMatcher, seed: int, most: int = 600) -> str | None:
        """A text up to its end; None if it did not come."""
        rng = np.random.default_rng(seed)
        written: list[int] = []
        while len(written) < most:
            packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            mask = np.unpackbits(packed, bitorder="little")[: len(self._closing)].astype(bool)
            eos = [token for token in self.tokenizer.eos_token_ids if mask[token]]
            if eos and rng.random() < 0.3:
                return self.text(written)
            narrow = mask & self._closing
            allowed = np.flatnonzero(narrow if narrow.any() and rng.random() < 0.5 else mask)
            assert len(allowed), self.text(written)
            token = int(rng.choice(allowed))
            if token in self.tokenizer.eos_token_ids:
                return self.text(written)
            assert matcher.consume_token(token), matcher.get_error()
            written.append(token)
            if matcher.is_stopped():
                return self.text(written)
        return None

    def text(self, tokens: list[int]) -> str:
        raw = self.vocabulary.tokens.decode_bytes(tokens)
        return raw.decode()

    def takes(self, matcher: LLMatcher, text: str) -> bool:
        """Whether a whole text is allowed, and may end there."""
        matcher = matcher.deep_copy()
        ids = self.vocabulary.tokens.tokenize_str(text, parse_special=True)
        return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


def load(folder: Path, *special: str) -> Writer:
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(folder)
    tokenizer._tokenizer.add_tokens(list(special), special_tokens=True)
    return Writer(tokenizer)


@pytest.fixture(scope="module")
def writer(smollm2: Path) -> Iterator[Writer]:
    """Marks are plain text for this tokenizer."""
    made = load(smollm2)
    yield made
    made.vocabulary.close()


@pytest.fixture(scope="module")
def marked_writer(smollm2: Path) -> Writer:
    """Marks are special tokens for this one."""
    return load(smollm2, "<tool_call>", "</tool_call>")


def read(text: str, use: ToolUse, tools: tuple[Tool, ...] = TOOLS) -> Read:
    return through(OutputFormat(HERMES).markup(Speech(tools, use, hermes=False), starts_thinking=False), [text])


def check(text: str, use: ToolUse) -> Read:
    got = read(text, use)
    for name, arguments in got.calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    assert got.whole == len(got.calls)
    return got


USES = [
    ToolUse("named", "search"),
    ToolUse("named", "stop"),
    ToolUse("required"),
    ToolUse("required", parallel=False),
]


@pytest.mark.parametrize("marks", ["text", "special"])
@pytest.mark.parametrize("use", USES, ids=str)
def test_forced_calls_are_valid_whatever_is_chosen(
    writer: Writer, marked_writer: Writer, use: ToolUse, marks: str
) -> None:
    writer = writer if marks == "text" else marked_writer
    matcher = writer.grammar(use)
    texts = [text for seed in range(12) if (text := writer.write(matcher.deep_copy(), seed)) is not None]
    assert len(texts) >= 6
    for text in texts:
        got = check(text, use)
        assert got.said == ""
        assert 1 <= len(got.calls) <= (16 if use.choice == "required" and use.parallel else 1)
        assert use.name is None or got.calls[0][0] == use.name


def test_required_calls_may_be_several_if_parallel(writer: Writer) -> None:
    one = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    many = writer.grammar(ToolUse("required"))
    single = writer.grammar(ToolUse("required", parallel=False))
    assert writer.takes(many, one)
    assert writer.takes(many, "\n".join([one] * 16))
    assert not writer.takes(many, "\n".join([one] * 17))
    assert writer.takes(single, one)
    assert not writer.takes(single, f"{one}\n{one}")
    assert not writer.takes(many, f"Hello {one}")
    assert not writer.takes(many, f"{one}\n")


@pytest.mark.parametrize("marks", ["text", "special"])
def test_strict_tools_leave_text_free_and_constrain_calls(writer: Writer, marked_writer: Writer, marks: str) -> None:
    writer = writer if marks == "text" else marked_writer
    matcher = writer.grammar(ToolUse())
    call = '<tool_call>\n{"name": "search", "arguments": {"query": "a", "order": "new"}}\n</tool_call>'
    for good in ("Hello.\n", "", call, f"Let me see: {call}", f"{call}\n{call}\nDone < that."):
        assert writer.takes(matcher, good), good
    for bad in (
        "<tool_call>",
        "<tool_call>oops</tool_call>",
        call.replace('"new"', '"best"'),
        call.replace("search", "find"),
        call.replace('"query": "a"', '"query":  "a"'),
        call.replace(', "order": "new"', ""),
        call + "\n<tool_call>",
    ):
        assert not writer.takes(matcher, bad), bad
    one = writer.grammar(ToolUse(parallel=False))
    assert writer.takes(one, f"See: {call}")


def test_a_format_that_a_library_reads_has_json_between_its_own_marks(writer: Writer) -> None:
    matcher = writer.grammar(ToolUse(), native=FOREIGN)
    call = '[CALLS]\n{"name": "stop", "arguments": {}}\n[/CALLS]'
    assert writer.takes(matcher, f"Some [CALL text. {call} More.")
    assert not writer.takes(matcher, "Some [CALLS] text.")
    assert not writer.takes(matcher, f"{call}[CALLS]")
    got = through(OutputFormat(FOREIGN).markup(Speech(TOOLS, ToolUse(), hermes=False), starts_thinking=False), [call])
    assert got.calls == [("stop", "{}")]


CONTENTS = [
    (Grammar("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}}', "f"), '{"a": 1}', "{1}"),
    (Grammar("regex", "[a-z]+", "f"), "abc", "ABC"),
    (Grammar("choice", '["yes", "no"]', "f"), "no", "maybe"),
    (Grammar("gbnf", 'root ::= "a"+', "f"), "aaa", "b"),
    (Grammar("lark", 'start: "x" "y"\n%ignore /[ ]+/', "f"), "x y", "y"),
]


@pytest.mark.parametrize(("content", "good", "bad"), CONTENTS, ids=lambda value: getattr(value, "kind", ""))
def test_constrained_content_or_calls(writer: Writer, content: Grammar, good: str, bad: str) -> None:
    call = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    matcher = writer.grammar(ToolUse(), (STOP,), content)
    assert writer.takes(matcher, good)
    assert writer.takes(matcher, call)
    assert not writer.takes(matcher, bad)
    assert not writer.takes(matcher, f"{good}{call}")
    forced = writer.grammar(ToolUse("required"), (STOP,), content)
    assert writer.takes(forced, call)
    assert not writer.takes(forced, good)


def test_nothing_is_enforced_where_nothing_must_be() -> None:
    loose, grammar = (PLACE, STOP), Grammar("regex", "a", "f")
    custom = Tool("patch", text=grammar)
    assert [enforced(loose, use, None) for use in (ToolUse(), ToolUse("required"))] == [False, True]
    assert [enforced(tools, ToolUse(), None) for tools in ((*loose, custom), TOOLS)] == [True, True]
    assert not enforced(TOOLS, ToolUse("none"), grammar)
    assert not enforced((), ToolUse(), grammar)


def _required(writer: Writer, *tools: Tool) -> tuple[LLMatcher, tuple[str, ...]]:
    """As a worker does: a matcher, and what is not enforced."""
    return CallGrammars(writer.vocabulary, writer.special).matcher(HERMES, tools, ToolUse("required"), None)


UNENFORCEABLE = [
    ({"properties": {"a": {"type": "strin"}}}, "properties.a.type", "strin"),
    ({"properties": {"a": {"$ref": "#/$defs/gone"}}}, "properties.a.$ref", "gone"),
    ({"properties": {"a": {"pattern": r"(a)\1"}}}, "properties.a.pattern", "a reference back"),
    ({"properties": {"a": {"pattern": "(["}}}, "properties.a", "unclosed character class"),
    ({"properties": {"a": {"items": {"pattern": r"\bfoo\b"}}}}, "properties.a.items", "say it without"),
    ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"enum": []}}}, "$defs.b", "nothing satisfies"),
    ({"properties": {"a": {"not": {"maxLength": 3}}}}, "properties.a.not", "say what is allowed"),
    ({"patternProperties": {"^a": {"type": "null"}, "b$": {"type": "boolean"}}}, "", "several of its patterns"),
]


@pytest.mark.parametrize(("parameters", "path", "reason"), UNENFORCEABLE, ids=lambda value: str(value)[:40])
def test_what_can_not_be_enforced_is_refused_of_a_strict_function_and_left_out_of_others(
    writer: Writer, parameters: dict[str, Any], path: str, reason: str
) -> None:
    schema = {"type": "object", "required": list(parameters.get("properties", ())), **parameters}
    full = f"tools[1].function.parameters.{path}".rstrip(".")
    with pytest.raises(InvalidRequest) as refusal:
        _required(writer, STOP, Tool("f", parameters=schema, strict=True))
    assert (refusal.value.param, refusal.value.code) == (full, "invalid_function_parameters")
    assert reason in refusal.value.message
    assert "'f'" in refusal.value.message
    matcher, ignored = _required(writer, STOP, Tool("f", parameters=schema))
    assert ignored == (full,)
    text = writer.write(matcher.deep_copy(), 1)
    assert text is None or read(text, ToolUse("required"), (STOP, Tool("f", parameters=schema))).calls


def test_distinct_items_of_calls_are_distinct(writer: Writer) -> None:
    words = {"type": "array", "items": {"type": "string", "maxLength": 2}, "uniqueItems": True, "minItems": 2}
    tool = Tool("f", parameters={"type": "object", "properties": {"a": words}, "required": ["a"]}, strict=True)
    matcher, ignored = CallGrammars(writer.vocabulary, writer.special).matcher(HERMES, (STOP, tool), ToolUse(), None)
    assert ignored == ()

    tokens = writer.vocabulary.tokens

    def takes(*items: str) -> bool:
        going = matcher.deep_copy()
        for token in tokens.tokenize_str('So, "a", "a":\n<tool_call>\n{"name": "f", "arguments": {"a": ["'):
            assert going.consume_token(token)
        for byte in json.dumps(items)[2:].encode():
            [token] = tokens.tokenize_bytes(bytes([byte]))
            if not going.compute_bitmask()[token // 8] >> (token % 8) & 1 or not going.consume_token(token):
                return False
        return True

    assert takes("a", "b")
    assert not takes("b", "a", "b")


def test_arguments_that_are_no_object_are_refused(writer: Writer) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _required(writer, STOP, Tool("f", parameters={"type": "string"}, param="tools[1].input_schema"))
    assert refusal.value.param == "tools[1].input_schema"
    assert "'object'" in refusal.value.message


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        callable_tools(TOOLS, ToolUse("named", "gone"))
    assert refusal.value.param == "tool_choice"


def test_a_bad_content_grammar_is_refused_by_its_own_field(writer: Writer) -> None:
    content = Grammar("gbnf", "root ::= (", "guided_grammar")
    with pytest.raises(InvalidRequest) as refusal:
        tool_grammar(HERMES, [], ToolUse(), content, writer.special)
    assert refusal.value.param == "guided_grammar"


@pytest.mark.parametrize(
    ("parameters", "closed"),
    [
        (None, True),
        ({"properties": {"a": {}}}, True),
        ({"type": "object"}, None),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, None),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, None),
        ({"type": "object", "properties": {"a": {}}, "allOf": [{"required": ["b"]}]}, None),
    ],
)
def test_arguments_are_closed_where_their_list_is_whole(parameters: dict[str, Any] | None, closed: bool | None) -> None:
    before = copy.deepcopy(parameters)
    schema = arguments_schema(0, Tool("f", parameters=parameters))
    assert (schema.get("additionalProperties") is False) == bool(closed)
    assert parameters == before


def test_random_schemas_give_valid_arguments(writer: Writer) -> None:
    rng = random.Random(1)
    finished = 0
    for seed in range(12):
        properties = {
            f"p{i}": rng.choice(
                [
                    {"type": "string", "maxLength": 5},
                    {"type": "string", "pattern": "^[a-c]{1,3}$"},
                    {"type": "integer", "minimum": -5, "maximum": 300},
                    {"type": "boolean"},
                    {"enum": [1, "two", None, {"three": [3]}]},
                    {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}]},
                    {"const": 'a "quoted" <tool_call>'},
                ]
            )
            for i in range(rng.randrange(5))
        }
        required = rng.sample(sorted(properties), rng.randrange(len(properties) + 1))
        tool = Tool("f", parameters={"type": "object", "properties": properties, "required": required})
        text = writer.write(writer.grammar(ToolUse("required", parallel=False), (tool,)), seed)
        if text is None:
            continue
        finished += 1
        got = read(text, ToolUse("required"), (tool,))
        assert (len(got.calls), got.whole) == (1, 1)
        jsonschema.validate(json.loads(got.calls[0][1]), tool.parameters)
    assert finished >= 8


@pytest.mark.parametrize("required", [[{"type": "string"}], [["a"]], ["a", None], {"a": True}, "a", 5], ids=str)
def test_names_that_are_none_ask_for_no_argument(required: Any) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}, "required": required}
    assert "required" not in enforced_arguments(0, Tool("f", parameters=parameters)).schema
