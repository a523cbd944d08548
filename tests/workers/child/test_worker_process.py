"""What a real worker process does with its requests."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import support.running.lone_parent
from support.running.bare_worker import BareWorker
from support.running.processes import lives
from support.running.queues import failures_of, text_of
from support.running.supervised import SCENARIO_S, Supervised, script

from mlx_server.queue.ticket import TicketState
from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Media, Message, Sampling, TextPrompt
from mlx_server.schemas.internal.messages import (
    Decoded,
    Event,
    Failed,
    FailureKind,
    Finished,
    Prepared,
    Progress,
    Started,
    Step,
    Submit,
    Text,
    TextOf,
    Tokens,
    TokensOf,
)
from mlx_server.workers.handlers.base import DECODERS

FOREVER = script(tokens=1 << 30, interval_s=0.01)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SCENARIO_S):
            await scenario()

    asyncio.run(limited())


def _finished(events: list[Event]) -> list[Finished]:
    return [event for event in events if isinstance(event, Finished)]


def test_a_request_is_answered_token_by_token() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            ticket = world.submit(script(tokens=30, interval_s=0.002, text="ü "), whole=False)
            answer = await world.answer(ticket)
            assert text_of(answer) == "ü " * 30
            assert sum(event.tokens for event in answer if isinstance(event, Text)) == 30
            assert _finished(answer) == [Finished(ticket.id, 0, "length", 1, 0, 30)]
            assert ticket.state is TicketState.SERVED

    run(scenario)


def test_a_whole_answer_comes_in_one_piece() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            ticket = world.submit(script(tokens=30), script(tokens=3, text="x"))
            text, other, *finished = await ticket.mailbox.get()
            assert {text, other} == {Text(ticket.id, 0, "token " * 30, 30), Text(ticket.id, 1, "xxx", 3)}
            assert sorted(event.index for event in _finished(finished)) == [0, 1]
            assert await ticket.mailbox.get() == []

    run(scenario)


def test_many_requests_run_side_by_side() -> None:
    async def scenario() -> None:
        async with Supervised(rows=4) as world:
            tickets = [world.submit(script(tokens=5 + n, text=f"{n} ")) for n in range(40)]
            answers = await asyncio.gather(*map(world.answer, tickets))
            assert [text_of(answer) for answer in answers] == [f"{n} " * (5 + n) for n in range(40)]
            assert world.queue.rows_used == 0

    run(scenario)


def test_sequences_of_a_large_request_run_in_turns() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            ticket = world.submit(*(script(tokens=4, interval_s=0.01, text=f"{n}") for n in range(7)))
            answer = await world.answer(ticket)
            assert sorted(event.text for event in answer if isinstance(event, Text)) == [f"{n}" * 4 for n in range(7)]
            running: set[int] = set()
            for event in world.delivered:
                match event:
                    case Text():
                        running.add(event.index)
                        assert len(running) <= 2
                    case Finished():
                        running.remove(event.index)
            assert not running

    run(scenario)


def test_a_small_request_takes_the_row_that_a_large_one_leaves() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            large = world.submit(script(tokens=2), script(tokens=300, interval_s=0.01), script(tokens=2), whole=False)
            small = world.submit(script(tokens=2))
            assert text_of(await world.answer(small)) == "token " * 2
            assert large.state is TicketState.RUNNING

    run(scenario)


def test_cancel_stops_a_running_request_and_frees_its_row() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            leaves = world.submit(FOREVER, whole=False)
            stays = world.submit(script(tokens=20, interval_s=0.01))
            await world.read(leaves)
            world.queue.cancel(leaves)
            assert text_of(await world.answer(stays)) == "token " * 20
            senders = [event.ticket for event in world.delivered if not isinstance(event, Prepared)]
            first_of_the_next = senders.index(stays.id)
            assert leaves.id not in senders[first_of_the_next:]

    run(scenario)


def test_cancel_of_a_waiting_request_keeps_it_from_ever_running() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            running = world.submit(script(tokens=10, interval_s=0.01))
            leaves = world.submit(script(tokens=5))
            stays = world.submit(script(tokens=5))
            world.queue.cancel(leaves)
            await world.answer(running)
            await world.answer(stays)
            assert leaves.id not in {event.ticket for event in world.delivered if not isinstance(event, Prepared)}

    run(scenario)


def test_cancel_while_its_prompt_is_prepared_frees_the_row() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            leaves = world.submit(script(tokens=5, prepare_s=0.5))
            stays = world.submit(script(tokens=5))
            world.queue.cancel(leaves)
            assert text_of(await world.answer(stays)) == "token " * 5
            assert leaves.id not in {event.ticket for event in world.delivered}

    run(scenario)


def test_a_prompt_that_is_refused_ends_before_it_has_a_row() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            running = world.submit(FOREVER, whole=False)
            refused = world.submit(script(invalid=True))
            [failed] = await world.answer(refused)
            assert isinstance(failed, Failed)
            assert (failed.kind, failed.param) == (FailureKind.INVALID, "prompt")
            assert failed.message == "the script says that this prompt is refused"
            assert running.state is TicketState.RUNNING

    run(scenario)


def test_a_sequence_that_breaks_ends_its_ticket_and_no_other() -> None:
    async def scenario() -> None:
        async with Supervised(rows=4) as world:
            good = world.submit(script(tokens=30, interval_s=0.01))
            bad = world.submit(script(tokens=1000, interval_s=0.01), script(tokens=30, raise_at=5), whole=False)
            answer = await world.answer(bad)
            assert answer[-1] == Failed(bad.id, FailureKind.ENGINE, "Failed to generate response: the script says so")
            assert text_of(await world.answer(good)) == "token " * 30
            assert world.queue.rows_used == 0
            after = await world.answer(world.submit(script(tokens=30)))
            assert failures_of(after) == []
            assert world.all_told("lost") == []

    run(scenario)


def test_a_parent_that_does_not_read_stops_the_engine_and_loses_nothing() -> None:
    tokens = 60_000

    async def scenario() -> None:
        async with BareWorker() as worker:
            await worker.ready()
            process = psutil.Process(worker.process.pid)
            worker.transport.pause_reading()
            before = process.memory_info().rss
            worker.send(Submit(1, GenerationRequest((TextPrompt(script(tokens=tokens)),), tokens), 1))
            await worker.falls_quiet()
            assert 0 < worker.unread_bytes() < 1 << 18
            assert process.memory_info().rss - before < 8 << 20
            worker.transport.resume_reading()
            texts = 0
            while True:
                step = await worker.receives(Step)
                texts += sum(event.tokens for event in step.events if isinstance(event, Text))
                if finished := _finished(step.events):
                    break
            assert finished == [Finished(1, 0, "length", 1, 0, tokens)]
            assert texts == tokens

    run(scenario)


def test_a_worker_hears_its_parent_while_it_may_not_write() -> None:
    async def scenario() -> None:
        async with BareWorker() as worker:
            await worker.ready()
            worker.transport.pause_reading()
            worker.send(Submit(1, GenerationRequest((TextPrompt(script(tokens=1 << 30)),), 1 << 30), 1))
            await worker.falls_quiet()
            worker.send(messages.Stop())
            assert await asyncio.wait_for(worker.process.wait(), 20) == 0

    run(scenario)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([""], id="idle"),
        pytest.param([FOREVER], id="streaming"),
        pytest.param([script(tokens=1 << 30)], id="at-full-speed"),
        pytest.param([script(tokens=1 << 30), "--deaf"], id="unable-to-write"),
        pytest.param([script(tokens=5, interval_s=0.01, hang_at=3)], id="hanging"),
    ],
)
def test_a_worker_whose_parent_is_killed_ends_by_itself(arguments: list[str]) -> None:
    command = [sys.executable, str(support.running.lone_parent.__file__), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            assert lives(pid)
        finally:
            parent.kill()

    deadline = time.monotonic() + 20
    while lives(pid):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.02)


@pytest.mark.model
@pytest.mark.parametrize(
    ("architecture", "rows", "note"),
    [("llama", 4, ""), ("mamba", 4, "one at a time: its log-probabilities"), ("gemma2", 1, "one request at a time: ")],
)
def test_a_real_worker_serves_each_kind_of_architecture(
    tiny_model: Callable[[str], Path], architecture: str, rows: int, note: str
) -> None:
    async def scenario() -> None:
        async with Supervised(str(tiny_model(architecture)), "lm", rows=4) as world:
            [facts] = world.all_told("ready")
            assert (facts.rows, facts.architecture) == (rows, architecture)
            assert note in "".join(facts.notes)
            requests = [
                GenerationRequest((TextPrompt("the quick" * n),), 6 + n, sampling=Sampling(temperature=t, seed=n))
                for n, t in enumerate((0.0, 1.0, 0.0, 0.7), start=1)
            ]
            tickets = [world.queue.submit(request, whole=True) for request in requests]
            answers = await asyncio.gather(*map(world.answer, tickets))
            assert all(failures_of(answer) == [] for answer in answers)
            again = [world.queue.submit(request, whole=True) for request in reversed(requests)]
            texts = [text_of(answer) for answer in await asyncio.gather(*map(world.answer, again))]
            assert texts == [text_of(answer) for answer in reversed(answers)]

    run(scenario)


def _shown(*files: bytes, text: str = "x") -> ChatPrompt:
    media = tuple(Media("image", file, 0, f"file {n}") for n, file in enumerate(files))
    return ChatPrompt((Message("user", text, media=media),))


SLOW = _shown(script(decode_s=3600).encode())
BAD = _shown(b"{no script")


def test_nobody_else_waits_for_a_file_that_takes_long_to_decode() -> None:
    async def scenario() -> None:
        async with Supervised(rows=4) as world:
            slow = world.queue.submit(GenerationRequest((SLOW,), 8), whole=True)
            text = world.submit(script(tokens=2))
            other = world.queue.submit(GenerationRequest((_shown(b"file"),), 2), whole=True)
            assert text_of(await world.answer(text)) == "token token "
            assert [event.prompt_tokens for event in _finished(await world.answer(other))] == [2]
            assert not slow.mailbox.closed
            world.queue.cancel(slow)

    run(scenario)


def test_a_question_waits_for_no_other_ones_file() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            world.worker.ask(1, TokensOf(SLOW))
            world.worker.ask(2, TokensOf(_shown(b"a", b"b"), want="count"))
            world.worker.ask(3, TokensOf(TextPrompt("x"), want="count"))
            await world.hears("answered", 2)
            assert sorted(world.all_told("answered")) == [(2, Tokens(3)), (3, Tokens(1))]

    run(scenario)


def test_who_leaves_while_files_are_decoded_before_his_is_forgotten() -> None:
    async def scenario() -> None:
        async with Supervised(rows=4) as world:
            soon = script(decode_s=0.3).encode()
            first = [world.queue.submit(GenerationRequest((_shown(soon),), 2), whole=True) for _ in range(DECODERS)]
            gone = world.queue.submit(GenerationRequest((BAD,), 2), whole=True)
            world.worker.ask(1, TokensOf(BAD))
            world.queue.cancel(gone)
            world.worker.withdraw(1)
            for ticket in first:
                assert _finished(await world.answer(ticket))
            world.worker.ask(2, TokensOf(_shown(b"file"), want="count"))
            await world.hears("answered")
            assert world.all_told("answered") == [(2, Tokens(2))]
            assert not [event for event in world.delivered if event.ticket == gone.id]

    run(scenario)


def test_a_file_that_cannot_be_decoded_refuses_its_request() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            ticket = world.queue.submit(GenerationRequest((BAD,), 2), whole=True)
            [failed] = await world.answer(ticket)
            assert isinstance(failed, Failed)
            assert (failed.kind, failed.param) == (FailureKind.INVALID, "file 0")
            world.worker.ask(1, TokensOf(BAD))
            _, answer = await world.hears("answered")
            assert (answer.kind, answer.param) == (FailureKind.INVALID, "file 0")

    run(scenario)


def test_a_question_is_answered_beside_the_requests() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            world.submit(FOREVER, whole=False)
            world.worker.ask(7, TokensOf(TextPrompt("x"), want="pieces"))
            assert await world.hears("answered") == (7, Tokens(1, (0,), ("token ",)))
            world.worker.ask(8, TextOf((0, 0)))
            assert await world.hears("answered", 2) == (8, Decoded("token token "))

    run(scenario)


def test_a_question_without_an_answer_says_why_and_the_next_is_answered() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            world.worker.ask(1, TokensOf(TextPrompt(script(invalid=True))))
            world.worker.ask(2, TokensOf(TextPrompt(script(raise_at=1))))
            world.worker.ask(3, TokensOf(TextPrompt("x"), want="count"))
            await world.hears("answered", 3)
            (_, invalid), (_, broken), (_, count) = world.all_told("answered")
            assert (invalid.kind, invalid.param) == (FailureKind.INVALID, "prompt")
            assert (broken.kind, broken.message) == (FailureKind.ENGINE, "RuntimeError: the script says so")
            assert count == Tokens(1)

    run(scenario)


def test_a_question_that_was_withdrawn_before_its_turn_is_not_answered() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            world.worker.ask(1, TokensOf(TextPrompt(script(prepare_s=0.2))))
            world.worker.ask(2, TokensOf(TextPrompt(script(die_at=1))))
            world.worker.withdraw(2)
            world.worker.withdraw(99)
            world.worker.ask(3, TokensOf(TextPrompt("x"), want="count"))
            await world.hears("answered", 2)
            assert [number for number, _ in world.all_told("answered")] == [1, 3]

    run(scenario)


def test_progress_is_reported_until_the_first_token() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            prompt = TextPrompt(script(tokens=30, interval_s=0.05, first_token_s=1.8, prompt_tokens=100))
            ticket = world.queue.submit(GenerationRequest((prompt,), 30), whole=True)
            await world.answer(ticket)
            at = [i for i, event in enumerate(world.delivered) if isinstance(event, Progress)]
            reports = [world.delivered[i] for i in at]
            tokens = [report.done for report in reports if isinstance(report, Progress)]
            assert 2 <= len(tokens) <= 3
            assert 0 < tokens[0] < tokens[1] < 100
            first = next(i for i, e in enumerate(world.delivered) if isinstance(e, Text))
            assert max(at) < first

    run(scenario)


def test_what_a_prompt_took_is_announced_once_for_each_sequence_if_it_is_wanted() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            prompts = (TextPrompt(script(tokens=3)), TextPrompt(script(tokens=2)))
            wanting = world.queue.submit(GenerationRequest(prompts, 8, announce=True), whole=True)
            await world.answer(wanting)
            announced = [event for event in world.delivered if isinstance(event, Started)]
            assert sorted(announced, key=lambda event: event.index) == [
                Started(wanting.id, 0, 1, 0),
                Started(wanting.id, 1, 1, 0),
            ]
            for index in (0, 1):
                [first, *_] = [event for event in world.delivered if getattr(event, "index", None) == index]
                assert isinstance(first, Started)
            await world.answer(world.submit(script(tokens=3)))
            assert [event for event in world.delivered if isinstance(event, Started)] == announced

    run(scenario)
