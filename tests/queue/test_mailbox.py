import asyncio

import pytest
from support.queues import read, text_of

from mlx_server.queue.mailbox import MERGE_ABOVE, Mailbox, merge
from mlx_server.schemas.messages import Event, Failed, FailureKind, Finished, Text


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
    assert merge(events) == [_text("a", 1), _text("bc", 0, 5), _text("", 2, 0), _finished(1), FAILED]
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
