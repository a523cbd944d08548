"""How conversations are folded that a template does not take as they stand."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_server.schemas.internal.generation import FunctionCall, Media, Message
from mlx_server.workers.engine.prompt.templates.content import parts
from mlx_server.workers.engine.prompt.templates.folding import NONE_TAKEN, KnownTurns, fold

ALL_TAKEN = KnownTurns()


def say(*turns: str) -> list[Message]:
    """`"user:hi"` is a turn; `call:a,b` calls functions and `tool:a` is a result."""
    return [turn(*said.split(":", 1)) for said in turns]


def turn(role: str, words: str) -> Message:
    if role == "call":
        return Message("assistant", "", tool_calls=tuple(FunctionCall(name, name, "{}") for name in words.split(",")))
    return Message(role, words, tool_call_id=words if role == "tool" else None)


def told(messages: list[Message]) -> list[str]:
    return [
        f"call:{','.join(call.name for call in one.tool_calls)}{one.content}"
        if one.tool_calls
        else f"{one.role}:{one.content}"
        for one in messages
    ]


@pytest.mark.parametrize(
    ("refused", "messages", "expected"),
    [
        ("systems", "system:a|system:b|user:c", "system:a\n\nb|user:c"),
        ("system", "system:a|user:b|assistant:c|user:d", "user:a\n\nb|assistant:c|user:d"),
        ("system", "system:a|system:b|user:c", "user:a\n\nb\n\nc"),
        ("system", "system:a", "user:a"),
        ("system", "system:a|assistant:b|user:c", "user:a|assistant:b|user:c"),
        ("system", "system:a|user:b|user:c", "user:a\n\nb|user:c"),
        ("late_system", "system:a|user:b|system:c", "system:a|user:b|user:<system>\nc\n</system>"),
        ("late_system", "user:a|system:b|assistant:c|user:d", "user:a|user:<system>\nb\n</system>|assistant:c|user:d"),
        (
            "late_system",
            "user:a|call:f,g|system:b|tool:f|system:c|tool:g|user:d",
            "user:a|call:f,g|tool:f|tool:g|user:<system>\nb\n</system>|user:<system>\nc\n</system>|user:d",
        ),
        ("late_system users", "user:a|system:b|user:c", "user:a\n\n<system>\nb\n</system>\n\nc"),
        (
            "late_system users",
            "user:a|assistant:b|system:c|user:d",
            "user:a|assistant:b|user:<system>\nc\n</system>\n\nd",
        ),
        ("assistant_first", "assistant:a|user:b", "user:|assistant:a|user:b"),
        ("assistant_first", "system:a|assistant:b|user:c", "system:a|user:|assistant:b|user:c"),
        ("assistant_first system", "system:a|assistant:b|user:c", "user:a|assistant:b|user:c"),
        ("users", "user:a|user:b|user:c|assistant:d|assistant:e", "user:a\n\nb\n\nc|assistant:d|assistant:e"),
        ("assistants", "user:a|user:b|assistant:d|assistant:e|call:f|tool:f", "user:a|user:b|call:fd\n\ne|tool:f"),
        (
            "user_after_result",
            "user:a|call:f|tool:f|user:b|user:c",
            "user:a|call:f|tool:f\n\n<user>\nb\n</user>\n\n<user>\nc\n</user>",
        ),
        (
            "late_system user_after_result",
            "call:f|tool:f|system:b",
            "call:f|tool:f\n\n<user>\n<system>\nb\n</system>\n</user>",
        ),
        (
            "several_calls",
            "user:a|call:f,g|tool:g|tool:f|assistant:b",
            "user:a|call:f|tool:f|call:g|tool:g|assistant:b",
        ),
        ("several_calls", "user:a|call:f,g|tool:g|user:b", "user:a|call:f,g|tool:g|user:b"),
        ("", "system:a|system:b|assistant:c|user:d|user:e|system:f|call:g,h|tool:g|tool:h|user:i", None),
    ],
)
def test_what_is_refused_is_folded_and_nothing_else(refused: str, messages: str, expected: str | None) -> None:
    takes = replace(ALL_TAKEN, **dict.fromkeys(refused.split(), False))
    assert "|".join(told(fold(say(*messages.split("|")), takes))) == (expected or messages)


def test_media_stay_where_they_are_when_turns_are_joined() -> None:
    def shown(role: str, text: str, at: int) -> Message:
        return Message(role, text, media=(Media("image", b"", at, "param"),))

    picture = {"type": "image"}
    [user] = fold([Message("system", "rule"), shown("user", "ab", 1), shown("user", "cd", 0)], NONE_TAKEN)
    assert parts(user) == [{"type": "text", "text": "rule\n\na"}, picture, {"type": "text", "text": "b\n\n"}, picture,
                           {"type": "text", "text": "cd"}]  # fmt: skip


def test_pictures_are_not_put_into_a_tools_result() -> None:
    messages = [*say("user:a", "call:f", "tool:f"), Message("user", "", media=(Media("image", b"", 0, "param"),))]
    assert told(fold(messages, NONE_TAKEN)) == ["user:a", "call:f", "tool:f", "assistant:", "user:"]


def test_reasoning_and_calls_of_turns_that_are_joined_are_kept() -> None:
    first, second = Message("assistant", "a", reasoning="x"), Message("assistant", "b", reasoning="y")
    calls = (FunctionCall("1", "f", "{}"),)
    [_, joined] = fold([Message("user", "u"), first, msgspec.structs.replace(second, tool_calls=calls)], NONE_TAKEN)
    assert (joined.content, joined.reasoning, joined.tool_calls) == ("a\n\nb", "x\n\ny", calls)


takes_some = st.builds(KnownTurns, *[st.booleans() for _ in fields(KnownTurns)])


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Rounds of turns; calls are answered before anybody else speaks."""
    made: list[Message] = []
    for _ in range(draw(st.integers(0, 8))):
        role = draw(st.sampled_from(["system", "user", "assistant", "call"]))
        if role != "call":
            made.append(Message(role, f"w{len(made)}."))
            continue
        count, first = draw(st.integers(1, 3)), len(made)
        names = [f"f{first}_{i}" for i in range(count)]
        calls = tuple(FunctionCall(name, name, "{}") for name in names)
        made.append(Message("assistant", f"w{first}.", tool_calls=calls))
        made += [Message("tool", f"w{first + 1 + i}.", tool_call_id=name) for i, name in enumerate(names)]
    return made


def words(messages: list[Message]) -> list[str]:
    return [word for message in messages for word in re.findall(r"w\d+\.", message.content)]


@given(conversations(), takes_some)
@settings(max_examples=300, deadline=None)
def test_all_words_are_kept_in_order_and_folding_twice_changes_nothing(
    messages: list[Message], takes: KnownTurns
) -> None:
    folded = fold(messages, takes)
    assert words(folded) == words(messages)
    assert fold(folded, takes) == folded
    called = [call.name for message in folded for call in message.tool_calls]
    assert called == [call.name for message in messages for call in message.tool_calls]


@given(conversations())
@settings(max_examples=300, deadline=None)
def test_folded_most_strictly_turns_alternate(messages: list[Message]) -> None:
    folded = fold(messages, NONE_TAKEN)
    for before, after in pairwise(["assistant", *(message.role for message in folded)]):
        assert after in {"assistant": ("user", "tool"), "user": ("assistant",), "tool": ("assistant",)}[before]
    assert all(len(message.tool_calls) < 2 for message in folded)


@given(conversations(), conversations(), takes_some)
@settings(max_examples=300, deadline=None)
def test_a_conversation_that_goes_on_begins_with_what_it_was(
    before: list[Message], after: list[Message], takes: KnownTurns
) -> None:
    shorter, longer = fold(before, takes), fold(before + after, takes)
    if not shorter:
        return
    *same, last = shorter
    assert longer[: len(same)] == same
    assert longer[len(same)].content.startswith(last.content)
    assert longer[len(same)].role == last.role
