"""Tickets go to the worker that knows their prompts, and wait for it no longer than that is worth."""

from support.running.queues import Harness, read

from mlx_server.queue.placement import Placement
from mlx_server.queue.policy import UNMEASURED_PREFILL_S
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Finished

LONG = 64 * 512
"""Characters of a prompt that takes 8 seconds to be read, before any has been measured."""

SERVICE_S = 5.0

SPARED_S = LONG * UNMEASURED_PREFILL_S


class Knowing(Harness):
    """Workers with one row that keep prompts."""

    def __init__(self, workers: int = 2, kept_tokens: int = 1 << 20, concurrency: int = 1) -> None:
        super().__init__(workers=workers, concurrency=concurrency, kept_tokens=kept_tokens)

    def ask(self, letter: str, characters: int = LONG) -> Ticket:
        return self.queue.submit(GenerationRequest((TextPrompt(letter * characters),), 8), whole=False)

    def settle(self, *tickets: Ticket) -> None:
        """They have run for SERVICE_S, if they were just submitted."""
        self.clock.advance(SERVICE_S)
        for ticket in tickets:
            self.finish(ticket)

    @property
    def placements(self) -> list[int]:
        return [self.queue.statistics.placements[one] for one in Placement]


def test_a_prompt_goes_where_it_was_read() -> None:
    harness = Knowing(workers=3)
    first = [harness.ask(letter) for letter in "abc"]
    assert harness.where(*first) == [0, 1, 2]
    harness.settle(*first)
    again = [harness.ask(letter) for letter in "cab"]
    assert harness.where(*again) == [2, 0, 1]
    assert harness.placements == [3, 0, 3]


def test_it_waits_for_its_worker_while_others_pass_but_no_longer_than_reading_takes() -> None:
    harness = Knowing()
    harness.settle(harness.ask("a"))
    busy = harness.ask("a")
    waiting = harness.ask("a")
    assert (harness.where(busy, waiting), waiting.rows_held) == ([0, 0], 0), "it is prepared where it will run"
    passing = harness.ask("b")
    assert (harness.where(passing), passing.rows_held) == ([1], 1)
    harness.settle(passing)
    harness.clock.advance(SPARED_S - SERVICE_S - 0.1)
    assert waiting.rows_held == 0
    harness.clock.advance(0.2)
    assert (harness.where(waiting), waiting.rows_held, busy.ended) == ([1], 1, False)
    assert harness.placements == [1, 1, 2]


def test_it_is_not_overtaken_at_the_worker_that_it_waits_for() -> None:
    harness = Knowing()
    harness.settle(harness.ask("a"))
    busy = harness.ask("a")
    waiting = harness.ask("a")
    other = harness.ask("b")
    later = [harness.ask("c"), harness.ask("a")]
    harness.settle(busy)
    assert harness.where(waiting, other) == [0, 1]
    assert [one.rows_held for one in (waiting, *later)] == [1, 0, 0]


def test_those_ahead_count_so_that_not_all_wait_for_one() -> None:
    harness = Knowing()
    harness.settle(harness.ask("a"))
    same = [harness.ask("a") for _ in range(3)]
    assert [one.rows_held for one in same] == [1, 0, 1], "the third would wait for two: 10 s, and 8 are spared"
    assert harness.where(same[2]) == [1]


def test_those_with_a_beginning_in_common_do_not_crowd_out_each_other() -> None:
    harness = Knowing(kept_tokens=LONG // 4, concurrency=4)
    placed = []
    for letter in "bcb":
        prompt = TextPrompt("a" * 2048 + letter * (LONG - 4096))
        ticket = harness.queue.submit(GenerationRequest((prompt,), 8), whole=False)
        placed += harness.where(ticket)
        harness.settle(ticket)
    assert placed == [0, 1, 0], "the second finds room elsewhere, the third what it knows"


def test_a_short_beginning_is_not_waited_for() -> None:
    harness = Knowing()
    harness.settle(harness.ask("a", 512))
    assert harness.where(harness.ask("a", 512), harness.ask("a", 512)) == [0, 1]
    assert harness.placements == [1, 1, 1]


def test_a_worker_that_is_lost_knows_nothing_and_is_not_waited_for() -> None:
    harness = Knowing()
    harness.settle(harness.ask("a"))
    busy, waiting = harness.ask("a"), harness.ask("a")
    harness.lose("gone")
    assert harness.where(busy) == [1], "it starts over"
    harness.settle(busy)
    assert (harness.where(waiting), waiting.rows_held) == ([1], 1)
    harness.ready(1)
    harness.settle(waiting)
    assert harness.where(harness.ask("a")) == [1]


def test_workers_that_keep_nothing_are_least_loaded_ones() -> None:
    harness = Knowing(kept_tokens=0)
    harness.settle(harness.ask("b"), harness.ask("a"))
    assert harness.where(harness.ask("a"), harness.ask("a")) == [0, 1]
    assert harness.placements == [0, 0, 4]


def test_how_fast_prompts_are_read_is_measured() -> None:
    harness = Knowing()
    ticket = harness.ask("a", 4000)
    harness.clock.advance(2.0)
    harness.say(ticket)
    harness.deliver([Finished(ticket.id, 0, "stop", 1000, 500, 1)])
    assert harness.queue.statistics.prefill_s == 2.0 / 2000
    short = harness.ask("b", 400)
    harness.clock.advance(2.0)
    harness.say(short)
    harness.deliver([Finished(short.id, 0, "stop", 100, 0, 1)], worker=harness.where(short)[0] or 0)
    assert harness.queue.statistics.prefill_s == 2.0 / 2000, "too short to tell"
    assert read(short.mailbox)
