import asyncio
import itertools
import random

import pytest
from support.running.queues import read, text_of

from mlx_server.queue.mailbox import MERGE_ABOVE, Mailbox, merge
from mlx_server.schemas.internal.messages import (
    ChosenToken,
    Event,
    Failed,
    FailureKind,
    Finished,
    Part,
    PromptReport,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
)


def _text(text: str, index: int = 0, tokens: int = 1) -> Text:
    return Text(1, index, text, tokens)


def _finished(index: int = 0) -> Finished:
    return Finished(1, index, "stop", 3, 0, 5)


FAILED = Failed(1, FailureKind.ENGINE, "no good")


async def _is_waiting(reading: asyncio.Task[list[Event]]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not reading.done()


def test_get_gives_unread_events_in_order_and_each_once() -> None:
    box = Mailbox(whole=False)
    events: list[Event] = [_text("a"), _text("b", index=1), _text("c"), _finished(1), _finished(0)]
    for event in events[:3]:
        box.put(event)
    assert read(box) == events[:3]
    for event in events[3:]:
        box.put(event)
    box.close()
    assert read(box) == events[3:]
    assert read(box) == []
    assert read(box) == []


def test_get_waits_for_the_first_event() -> None:
    async def scenario() -> None:
        box = Mailbox(whole=False)
        reading = asyncio.ensure_future(box.get())
        assert await _is_waiting(reading)
        box.put(_text("a"))
        assert await asyncio.wait_for(reading, 5) == [_text("a")]
        reading = asyncio.ensure_future(box.get())
        assert await _is_waiting(reading)
        box.close()
        assert await asyncio.wait_for(reading, 5) == []

    asyncio.run(scenario())


def test_whole_mailbox_gives_everything_at_its_close_only() -> None:
    async def scenario() -> None:
        box = Mailbox(whole=True)
        reading = asyncio.ensure_future(box.get())
        for piece in ("one ", "two ", "three"):
            box.put(_text(piece, tokens=2))
        box.put(_finished())
        assert await _is_waiting(reading)
        box.close()
        assert await asyncio.wait_for(reading, 5) == [_text("one two three", tokens=6), _finished()]
        assert await box.get() == []

    asyncio.run(scenario())


def test_close_is_idempotent_and_nothing_may_follow() -> None:
    box = Mailbox(whole=False)
    box.close()
    box.close()
    with pytest.raises(AssertionError):
        box.put(_text("late"))


def test_mailbox_keeps_one_event_per_token_up_to_the_limit() -> None:
    box = Mailbox(whole=False)
    for _ in range(MERGE_ABOVE):
        box.put(_text("x"))
    assert len(read(box)) == MERGE_ABOVE


@pytest.mark.parametrize("sequences", [1, 3])
def test_mailbox_merges_above_the_limit_and_loses_nothing(sequences: int) -> None:
    box = Mailbox(whole=False)
    for number in range(10 * MERGE_ABOVE):
        box.put(_text(f"{number} ", index=number % sequences, tokens=number))
    box.put(_finished())
    events = read(box)
    assert len(events) <= MERGE_ABOVE
    for index in range(sequences):
        numbers = range(index, 10 * MERGE_ABOVE, sequences)
        texts = [event for event in events if isinstance(event, Text) and event.index == index]
        assert "".join(text.text for text in texts) == "".join(f"{number} " for number in numbers)
        assert sum(text.tokens for text in texts) == sum(numbers)
    assert events[-1] == _finished()


def test_merge_joins_texts_by_sequence_and_keeps_other_events_in_order() -> None:
    events = [_text("a", 1), _text("b", 0, 2), _finished(1), _text("c", 0, 3), _text("", 2, 0), FAILED]
    assert merge(events) == [_text("a", 1), _text("bc", 0, 5), _finished(1), _text("", 2, 0), FAILED]
    assert merge([]) == []


def test_mailbox_overflows_on_characters_that_nobody_reads() -> None:
    box = Mailbox(whole=False, limit_chars=100)
    for _ in range(100):
        box.put(_text("x"))
    assert not box.overflowed
    box.put(_text("x"))
    assert box.overflowed
    assert len(text_of(read(box))) == 101
    assert not box.overflowed


def test_whole_mailbox_never_overflows() -> None:
    box = Mailbox(whole=True, limit_chars=100)
    box.put(_text("x" * 1000))
    assert not box.overflowed


def test_clear_forgets_what_was_not_read() -> None:
    async def scenario() -> None:
        box = Mailbox(whole=False, limit_chars=100)
        box.put(_text("x" * 101))
        box.clear()
        assert not box.overflowed
        reading = asyncio.ensure_future(box.get())
        assert await _is_waiting(reading)
        box.put(_text("new"))
        assert await asyncio.wait_for(reading, 5) == [_text("new")]

    asyncio.run(scenario())


def test_clear_keeps_a_reader_waiting_that_was_about_to_wake_up() -> None:
    async def scenario() -> None:
        box = Mailbox(whole=False)
        reading = asyncio.ensure_future(box.get())
        assert await _is_waiting(reading)
        box.put(_text("of the first life"))
        box.clear()
        assert await _is_waiting(reading)
        box.put(_text("of the second"))
        assert await asyncio.wait_for(reading, 5) == [_text("of the second")]

    asyncio.run(scenario())


def _thought(text: str, index: int = 0, tokens: int = 1) -> Reasoning:
    return Reasoning(1, index, text, tokens)


def _call(arguments: str, call: int = 0, name: str | None = None, index: int = 0) -> ToolCall:
    return ToolCall(1, index, call, arguments, 1, None if name is None else f"id_{name}", name)


def test_merge_joins_neighbours_of_one_kind_only() -> None:
    events: list[Event] = [
        _thought("a"),
        _thought("b", tokens=4),
        _text("c"),
        _thought("d"),
        _call("", 0, "f"),
        _call('{"x":', 0),
        _call("1}", 0),
        _call("", 1, "f"),
        _call("{}", 1),
        _text("e"),
        _text("f"),
        _finished(),
    ]
    assert merge(events) == [
        _thought("ab", tokens=5),
        _text("c"),
        _thought("d"),
        ToolCall(1, 0, 0, '{"x":1}', 3, "id_f", "f"),
        ToolCall(1, 0, 1, "{}", 2, "id_f", "f"),
        _text("ef", tokens=2),
        _finished(),
    ]


def test_merge_keeps_each_sequence_in_order_whatever_the_others_do() -> None:
    rng = random.Random(5)
    events: list[Event] = []
    for number in range(3000):
        index = rng.randrange(4)
        make = rng.choice((_text, _thought))
        events.append(
            make(f"{number} ", index, rng.randrange(3)) if rng.random() < 0.7 else _call(f"{number} ", 0, None, index)
        )
    assert len(merge(events)) < len(events)
    for index in range(4):
        assert _said(merge(events), index) == _said(events, index)
    assert merge(merge(events)) == merge(events)


def _said(events: list[Event], index: int) -> tuple[list[tuple[type, str]], int]:
    """What a sequence says, one entry for each run of a kind, and its number of tokens."""
    parts = [event for event in events if isinstance(event, Part) and event.index == index]
    texts = [(type(part), part.arguments if isinstance(part, ToolCall) else part.text) for part in parts]
    runs = [(kind, "".join(text for _, text in run)) for kind, run in itertools.groupby(texts, lambda entry: entry[0])]
    return runs, sum(part.tokens for part in parts)


def test_merge_keeps_every_logprob_in_order() -> None:
    chosen = [ChosenToken(TokenLogprob(str(n), b"", -n), (TokenLogprob("x", b"x", -1.0),) * 3) for n in range(6)]
    events: list[Event] = [
        Text(1, 0, "a", 1, (chosen[0],)),
        Text(1, 1, "other", 1, (chosen[5],)),
        Text(1, 0, "bc", 2, (chosen[1], chosen[2])),
        Text(1, 0, "", 0),
        Text(1, 0, "", 1, (chosen[3],)),
    ]
    assert merge(events) == [Text(1, 0, "abc", 4, tuple(chosen[:4])), Text(1, 1, "other", 1, (chosen[5],))]


def test_merge_keeps_every_id_and_what_is_told_of_the_prompt() -> None:
    told = PromptReport((7, 8))
    events: list[Event] = [
        Text(1, 0, "", 0, prompt=told),
        Text(1, 0, "a", 1, ids=(1,)),
        Text(1, 0, "b", 2, ids=(2, 3)),
        Reasoning(1, 0, "c", 1, (4,)),
        Reasoning(1, 0, "d", 1, (5,)),
        ToolCall(1, 0, 0, "{", 1, "call_f", "f", (6,)),
        ToolCall(1, 0, 0, "}", 1, ids=(7,)),
    ]
    assert merge(events) == [
        Text(1, 0, "ab", 3, ids=(1, 2, 3), prompt=told),
        Reasoning(1, 0, "cd", 2, (4, 5)),
        ToolCall(1, 0, 0, "{}", 2, "call_f", "f", (6, 7)),
    ]


def test_a_call_never_swallows_the_beginning_of_the_next_one() -> None:
    events: list[Event] = [_call("", call, "f") for call in range(3)]
    assert merge(events) == events


@pytest.mark.parametrize(
    "part",
    [
        _text("x" * 101),
        _thought("x" * 101),
        _call("x" * 101),
        Text(1, 0, "", 1, (ChosenToken(TokenLogprob("", b"", 0.0), (TokenLogprob("", b"", 0.0),) * 20),)),
    ],
    ids=["text", "reasoning", "call", "logprobs"],
)
def test_every_kind_of_part_counts_when_nobody_reads(part: Part) -> None:
    box = Mailbox(whole=False, limit_chars=100)
    box.put(part)
    assert box.overflowed
    assert read(box) == [part]
    assert not box.overflowed
