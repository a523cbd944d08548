"""A real child process that dies, hangs, falls silent, can't start, and is stopped."""

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.running.processes import lives
from support.running.queues import failures_of, text_of
from support.running.supervised import QUICK, SCENARIO_S, Supervised, script

from mlx_server.queue.errors import QueueClosed
from mlx_server.queue.ticket import TicketState
from mlx_server.schemas.internal.messages import Failed, FailureKind, Finished
from mlx_server.workers.parent.supervisor import Patience, StartError, WorkerState, backoff_s, was_healthy

FOREVER = script(tokens=1 << 30, interval_s=0.01)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SCENARIO_S):
            await scenario()

    asyncio.run(limited())


def _signal(world: Supervised, number: signal.Signals) -> None:
    assert world.worker.pid is not None
    psutil.Process(world.worker.pid).send_signal(number)


@pytest.mark.parametrize(
    ("deaths", "expected"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 2.0), (5, None), (6, None), (100, None)]
)
def test_backoff_begins_with_the_second_death_doubles_and_then_gives_up(deaths: int, expected: float | None) -> None:
    assert backoff_s(deaths, Patience()) == expected


def test_backoff_is_capped() -> None:
    patience = Patience(deaths_in_a_row=1000, first_backoff_s=0.5, longest_backoff_s=30.0)
    delays = [backoff_s(deaths, patience) for deaths in range(1, 1000)]
    assert delays[:9] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert set(delays[9:]) == {30.0}


@pytest.mark.parametrize(
    ("served_s", "start_s", "expected"), [(1.0, 0.5, False), (1.6, 0.5, True), (59.0, 30.0, False), (61.0, 30.0, True)]
)
def test_a_worker_was_healthy_after_a_few_times_its_start_or_a_minute(
    served_s: float, start_s: float, expected: bool
) -> None:
    assert was_healthy(served_s, start_s, Patience()) is expected


def test_a_killed_worker_is_replaced_and_what_nobody_has_seen_is_replayed() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            first_pid = world.worker.pid
            prompts = [script(tokens=20, interval_s=0.02, text=f"{n} ") for n in range(4)]
            tickets = [world.submit(prompt) for prompt in prompts]
            await world.hears("step")
            _signal(world, signal.SIGKILL)
            answers = await asyncio.gather(*map(world.answer, tickets))
            assert [text_of(answer) for answer in answers] == [f"{n} " * 20 for n in range(4)]
            assert world.all_told("lost") == ["The worker process died of SIGKILL"]
            assert (world.worker.restarts, world.worker.state) == (1, WorkerState.READY)
            assert world.worker.pid != first_pid
            assert world.queue.statistics.replayed == 2
            assert world.queue.rows_used == 0

    run(scenario)


def test_a_death_in_mid_stream_is_an_honest_end() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            ticket = world.submit(script(tokens=20, interval_s=0.02, die_at=8), whole=False)
            begun = await world.read(ticket)
            assert ticket.sent
            rest = await world.answer(ticket)
            text = text_of(begun + rest)
            assert text == "token " * text.count("token") != ""
            assert text.count("token") <= 7
            assert rest[-1] == Failed(ticket.id, FailureKind.WORKER_LOST, "The worker process exited with code 9")
            assert failures_of(rest) == [FailureKind.WORKER_LOST]
            assert not any(isinstance(event, Finished) for event in rest)
            assert ticket.state is TicketState.FAILED
            assert text_of(await world.answer(world.submit("works again"))) == "token " * 2

    run(scenario)


def test_a_poisonous_request_is_replayed_once_and_the_queue_goes_on() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            poisonous = world.submit(script(die_at=1))
            waiting = [world.submit(script(tokens=3)) for _ in range(5)]
            assert failures_of(await world.answer(poisonous)) == [FailureKind.WORKER_LOST]
            assert poisonous.replays == 1
            for ticket in waiting:
                assert text_of(await world.answer(ticket)) == "token " * 3
                assert ticket.replays == 0
            assert len(world.all_told("lost")) == 2

    run(scenario)


def test_who_runs_beside_a_poisonous_request_twice_ends_with_it_and_who_waits_is_served() -> None:
    async def scenario() -> None:
        async with Supervised(rows=2) as world:
            poisonous = world.submit(script(tokens=20, interval_s=0.01, die_at=10))
            neighbour = world.submit(script(tokens=20, interval_s=0.01))
            waiting = world.submit(script(tokens=3))
            assert failures_of(await world.answer(poisonous)) == [FailureKind.WORKER_LOST]
            assert failures_of(await world.answer(neighbour)) == [FailureKind.WORKER_LOST]
            assert text_of(await world.answer(waiting)) == "token " * 3

    run(scenario)


def test_an_engine_that_crashes_is_a_death_like_any_other() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1) as world:
            crashing = world.submit(script(crash_at=3))
            waiting = world.submit("after it")
            assert failures_of(await world.answer(crashing)) == [FailureKind.WORKER_LOST]
            assert text_of(await world.answer(waiting)) == "token " * 2
            assert world.all_told("lost") == ["The worker process exited with code 1"] * 2

    run(scenario)


def test_an_engine_that_hangs_in_a_step_is_noticed_and_replaced() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1, patience=replace(QUICK, step_s=0.5, check_s=0.05)) as world:
            hanging = world.submit(script(tokens=10, hang_at=4), whole=False)
            waiting = world.submit(script(tokens=3))
            await world.read(hanging)
            answer = await world.answer(hanging)
            assert failures_of(answer) == [FailureKind.WORKER_LOST]
            assert text_of(await world.answer(waiting)) == "token " * 3
            assert world.all_told("lost") == ["The worker process was in one step for more than 0.5 s and was killed"]

    run(scenario)


def test_a_prompt_on_which_the_tokenizer_hangs_is_noticed_and_ends_after_one_replay() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1, patience=replace(QUICK, step_s=0.3, check_s=0.05)) as world:
            hanging = world.submit(script(prepare_s=3600))
            assert failures_of(await world.answer(hanging)) == [FailureKind.WORKER_LOST]
            assert len(world.all_told("lost")) == 2
            assert text_of(await world.answer(world.submit("works again"))) == "token " * 2

    run(scenario)


def test_a_long_answer_is_not_taken_for_a_step_that_hangs() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, step_s=0.1, check_s=0.05)) as world:
            answer = await world.answer(world.submit(script(tokens=30, interval_s=0.05)))
            assert text_of(answer) == "token " * 30
            assert world.all_told("lost") == []

    run(scenario)


def test_a_worker_that_falls_silent_is_noticed_and_replaced() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, heartbeat_s=1.6, check_s=0.05)) as world:
            ticket = world.submit(script(tokens=5, first_token_s=0.5))
            _signal(world, signal.SIGSTOP)
            assert text_of(await world.answer(ticket)) == "token " * 5
            assert world.all_told("lost") == ["The worker process was silent for more than 1.6 s and was killed"]
            assert ticket.replays == 1

    run(scenario)


def test_a_worker_that_is_busy_preparing_is_not_taken_for_silent() -> None:
    async def scenario() -> None:
        async with Supervised(rows=1, patience=replace(QUICK, heartbeat_s=1.5, check_s=0.05)) as world:
            streaming = world.submit(FOREVER, whole=False)
            preparing = world.submit(script(tokens=2, prepare_s=2.0))
            await world.read(streaming)
            world.queue.cancel(streaming)
            assert text_of(await world.answer(preparing)) == "token " * 2
            assert world.all_told("lost") == []

    run(scenario)


def test_a_worker_that_keeps_dying_is_given_up() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, deaths_in_a_row=3)) as world:
            waiting = [world.submit(FOREVER) for _ in range(5)]
            for life in range(1, 4):
                await world.hears("ready", life)
                _signal(world, signal.SIGKILL)
            assert await world.hears("given up") == "The worker process died of SIGKILL"
            await world.running
            assert len(world.all_told("lost")) == 2
            assert (world.worker.state, world.worker.pid) == (WorkerState.FAILED, None)
            for ticket in waiting:
                [kind] = failures_of(await world.answer(ticket))
                assert kind in (FailureKind.WORKER_LOST, FailureKind.UNAVAILABLE)
            with pytest.raises(QueueClosed) as caught:
                world.submit("too late")
            assert caught.value.kind is FailureKind.UNAVAILABLE

    run(scenario)


def test_deaths_of_a_healthy_worker_are_not_in_a_row() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, deaths_in_a_row=2, healthy_after_s=-1.0)) as world:
            for life in range(1, 5):
                await world.hears("ready", life)
                _signal(world, signal.SIGKILL)
            await world.hears("ready", 5)
            assert world.worker.restarts == 4

    run(scenario)


@pytest.mark.parametrize("healthy", [False, True])
def test_a_worker_is_steady_again_once_its_last_death_counts_no_more(healthy: bool) -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, healthy_after_s=-1.0) if healthy else QUICK) as world:
            assert world.worker.steady
            _signal(world, signal.SIGKILL)
            await world.hears("lost")
            assert not world.worker.steady
            await world.hears("ready", 2)
            assert world.worker.steady == healthy

    run(scenario)


def test_a_restart_waits_for_its_backoff() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, first_backoff_s=0.4)) as world:
            loop = asyncio.get_running_loop()
            for life in (1, 2):
                await world.hears("ready", life)
                _signal(world, signal.SIGKILL)
                await world.hears("lost", life)
            lost_at = loop.time()
            assert (world.worker.state, world.worker.pid) == (WorkerState.RESTARTING, None)
            await world.hears("ready", 3)
            assert loop.time() - lost_at >= 0.4

    run(scenario)


@pytest.mark.parametrize(
    ("model_path", "model_type", "message"),
    [
        ("scripted:fail", "scripted", "the script says that this model can't be loaded"),
        ("scripted:die", "scripted", "The worker process exited with code 3"),
        (
            "any",
            "film",
            "models of type 'film' are not served; `lm`, `vlm`, `embeddings`, `rerank`, `audio` and `image` are",
        ),
    ],
)
def test_a_first_start_that_fails_is_an_error_of_one_line(model_path: str, model_type: str, message: str) -> None:
    async def scenario() -> None:
        async with Supervised(model_path, model_type, wait_ready=False) as world:
            with pytest.raises(StartError) as caught:
                await world.running
            assert str(caught.value) == message
            assert (world.worker.state, world.worker.restarts) == (WorkerState.FAILED, 0)
            assert world.all_told("lost") == world.all_told("given up") == []

    run(scenario)


@pytest.mark.model
def test_a_model_that_raises_when_it_is_tried_is_a_start_that_fails(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    windows = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": "wide"}
    (folder / "config.json").write_text(json.dumps({**config, **windows}))

    async def scenario() -> None:
        async with Supervised(str(folder), "lm", wait_ready=False) as world:
            with pytest.raises(StartError) as caught:
                await world.running
            assert str(caught.value).startswith("the model can't be loaded: TypeError: ")
            assert "\n" not in str(caught.value)

    run(scenario)


def test_stop_ends_an_idle_worker_with_code_0() -> None:
    async def scenario() -> None:
        async with Supervised() as world:
            pid = world.worker.pid
            assert pid is not None
            process = world.worker._process
            await world.worker.stop()
            await world.running
            assert process is not None
            assert process.obituary() == "The worker process exited with code 0"
            assert world.worker.state is WorkerState.STOPPED
            assert not lives(pid)

    run(scenario)


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(FOREVER, id="streaming"),
        pytest.param(script(tokens=1 << 30), id="at-full-speed"),
        pytest.param(script(prepare_s=30), id="preparing"),
    ],
)
def test_stop_leaves_no_child_whatever_it_does(prompt: str) -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, stop_s=20.0)) as world:
            world.submit(prompt)
            if "prepare_s" not in prompt:
                await world.hears("step", 3)
            loop = asyncio.get_running_loop()
            before = loop.time()
            await world.worker.stop()
            await world.running
            assert loop.time() - before < 10

    run(scenario)


def test_stop_kills_a_worker_that_hangs() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, stop_s=0.3)) as world:
            world.submit(script(tokens=10, hang_at=3))
            await world.hears("step", 2)
            await world.worker.stop()
            await world.running
            assert world.worker.state is WorkerState.STOPPED

    run(scenario)


def test_stop_kills_a_worker_that_is_stopped() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, stop_s=0.3)) as world:
            _signal(world, signal.SIGSTOP)
            await world.worker.stop()
            await world.running

    run(scenario)


def test_stop_does_not_wait_for_a_load() -> None:
    async def scenario() -> None:
        async with Supervised("scripted:load_s=50", wait_ready=False) as world:
            await world.hears("loading", 2)
            await world.worker.stop()
            await world.running
            assert world.worker.state is WorkerState.STOPPED

    run(scenario)


def test_stop_does_not_wait_for_a_backoff() -> None:
    async def scenario() -> None:
        async with Supervised(patience=replace(QUICK, first_backoff_s=50.0)) as world:
            for life in (1, 2):
                await world.hears("ready", life)
                _signal(world, signal.SIGKILL)
                await world.hears("lost", life)
            await world.worker.stop()
            await world.running
            assert world.worker.state is WorkerState.STOPPED

    run(scenario)


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8])
def test_stop_during_a_start_leaves_no_child(ticks: int) -> None:
    async def scenario() -> None:
        before = {child.pid for child in psutil.Process().children()}
        async with Supervised(wait_ready=False) as world:
            for _ in range(ticks):
                await asyncio.sleep(0)
            await world.worker.stop()
            await world.running
            assert world.worker.state is WorkerState.STOPPED
        assert {child.pid for child in psutil.Process().children()} <= before

    run(scenario)
