"""What models say, and what clients must get of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.running.parrot import Accent

PROPERTIES: dict[str, Any] = {
    "path": {"type": "string"},
    "body": {"type": "string"},
    "count": {"type": "integer"},
    "opt": {"type": ["string", "null"]},
    "any": {},
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "write": {"type": "object", "properties": PROPERTIES},
    "list": {"type": "object", "properties": {}},
}

ORDINARY = ("<tool_call>", "</tool_call>", "<think>", "</think>")
HERMES = Accent("<tool_call> tool_call.name", ordinary=(*ORDINARY, '{"name": ', '"arguments": '))
CODER = Accent("<tool_call>\\n<function=", ordinary=(*ORDINARY, "<parameter", "</parameter", "<function", "</function"))
HARMONY = Accent(
    special=("<|channel|>", "<|message|>", "<|call|>", "<|start|>", "<|end|>", "<|constrain|>"),
    opening="<|start|>assistant",
    end="<|return|>",
)
ACCENTS = {"hermes": HERMES, "coder": CODER, "harmony": HARMONY}


@dataclass(frozen=True)
class Saying:
    """What a model of a family says, and what a client gets: text, calls, and whether any of them is unreadable."""

    name: str
    family: str
    text: str
    said: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    raw: str = ""
    """The arguments of a last call that can't be read, which is of `list`."""


def coder(*parameters: tuple[str, str]) -> str:
    """One of Qwen3-Coder's calls of `write`."""
    written = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters)
    return f"<tool_call>\n<function=write>\n{written}</function>\n</tool_call>"


def hermes(arguments: str, name: str = "write") -> str:
    """One of Hermes' calls."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


A = {"path": "a"}
SAYINGS = [
    Saying(
        "harmony_no_space",
        "harmony",
        '<|channel|>commentary to=functions.write<|constrain|>json<|message|>{"path": "a"}<|call|>',
        calls=[("write", A)],
    ),
    Saying(
        "harmony_role_header",
        "harmony",
        '<|start|>assistant to=functions.write<|channel|>commentary<|constrain|>json<|message|>{"path": "a"}<|call|>',
        calls=[("write", A)],
    ),
    Saying(
        "harmony_not_offered",
        "harmony",
        '<|channel|>commentary to=functions.launch <|constrain|>json<|message|>{"path": "a\n"}<|call|>',
        calls=[("launch", {"path": "a\n"})],
    ),
    Saying(
        "coder_int_none", "coder", coder(("path", "a"), ("count", "None")), calls=[("write", A | {"count": "None"})]
    ),
    Saying(
        "coder_int_words_then_more",
        "coder",
        coder(("path", "a"), ("count", "10 lines"), ("body", "hello")),
        calls=[("write", A | {"count": "10 lines", "body": "hello"})],
    ),
    Saying("coder_int_first", "coder", coder(("count", ""), ("path", "a")), calls=[("write", {"count": ""} | A)]),
    Saying(
        "coder_unclosed_last",
        "coder",
        coder(("path", "a.txt"), ("body", '{"mode": "CLEAN"}')).replace("}\n</parameter>", "}"),
        calls=[("write", {"path": "a.txt", "body": '{"mode": "CLEAN"}'})],
    ),
    Saying("coder_string_null", "coder", coder(("body", "NULL")), calls=[("write", {"body": "NULL"})]),
    Saying("coder_union_number", "coder", coder(("opt", "123")), calls=[("write", {"opt": "123"})]),
    Saying("coder_union_null", "coder", coder(("opt", "null")), calls=[("write", {"opt": None})]),
    Saying("coder_any", "coder", coder(("any", '{"a": [1]}')), calls=[("write", {"any": {"a": [1]}})]),
    Saying(
        "coder_two_in_one",
        "coder",
        coder(("path", "a")).replace("<tool_call>\n", "<tool_call>\n<function=list>\n</function>\n"),
        calls=[("list", {}), ("write", A)],
    ),
    Saying(
        "coder_marks_in_a_value",
        "coder",
        coder(("body", "a </tool_call> <think>\n</parameter>b</function>\n c"), ("path", "a")),
        calls=[("write", {"body": "a </tool_call> <think>\n</parameter>b</function>\n c"} | A)],
    ),
    Saying(
        "json_raw_newline",
        "hermes",
        hermes('{"path": "a", "body": "line1\nline2\ttab"}'),
        calls=[("write", A | {"body": "line1\nline2\ttab"})],
    ),
    Saying(
        "json_backslash",
        "hermes",
        hermes(r'{"path": "D:\dir\new", "body": "\d+"}'),
        calls=[("write", {"path": r"D:\dir\new", "body": r"\d+"})],
    ),
    Saying("json_not_offered", "hermes", "Now.\n" + hermes('{"a": 1}', "launch"), "Now.", [("launch", {"a": 1})]),
    Saying("json_unreadable", "hermes", hermes("{}") + hermes("ls -a", "list"), calls=[("write", {})], raw="ls -a"),
    Saying("mark_in_prose", "hermes", text := "BEGIN `<think>` AFTER END", text),
    Saying("call_mark_in_prose", "hermes", text := "BEGIN `<tool_call>` and `</tool_call>` AFTER END", text),
    Saying("call_in_a_fence", "hermes", text := f"So:\n```\n{hermes('{}')}\n```\nThat is all.", text),
]
