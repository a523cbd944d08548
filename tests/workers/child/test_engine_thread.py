from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import FinishReason, Load, Loading, MlxMemory, ModelFacts, Score
from mlx_server.workers.child.engine_thread import UNREAD_STEPS, EngineThread
from mlx_server.workers.engine.jobs import Job
from mlx_server.workers.engine.sequence import Broken, Computed, Key, Later, Produced, Sequence, Token
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.base import AnswerStream

SPEC = Load("fake", "fake", 4, 512, "/dev/null/nowhere")
FACTS = ModelFacts(4, None, 10, 0, "fake", "none")


@dataclass(eq=False)
class Drawn(Job):
    """A sequence some of whose steps have results that are made later."""

    gathers = False
    later: dict[int, Later] = field(default_factory=dict)


class FakeHandler:
    """Gives each of its sequences a token per step, and waits in every step for a permit if there is a gate."""

    def __init__(self, *, gated: bool = False, load_error: Exception | None = None) -> None:
        self.sequences: dict[Key, Sequence] = {}
        self.threads: set[int] = set()
        self.steps = 0
        self.closed = 0
        self.settled = 0
        self.loadings = [Loading("half", 1, 2)]
        self.fails_at = 0
        self.limits: list[int | None] = []
        self.rested = threading.Event()
        self.permits = threading.Semaphore(0) if gated else None
        self.entered: asyncio.Queue[int] = asyncio.Queue()
        self._load_error = load_error
        self._loop = asyncio.get_running_loop()

    accelerated = False

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        self.threads.add(threading.get_ident())
        for loading in self.loadings:
            report(loading)
        if self._load_error:
            raise self._load_error
        return FACTS

    def prepare(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        raise NotImplementedError

    def answer_stream(self, sequence: Sequence) -> AnswerStream:
        raise NotImplementedError

    @property
    def engine(self) -> FakeHandler:
        return self

    @property
    def busy(self) -> bool:
        return bool(self.sequences)

    def add(self, sequence: Sequence) -> None:
        self.threads.add(threading.get_ident())
        self.sequences[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        self.threads.add(threading.get_ident())
        del self.sequences[key]

    def step(self) -> list[Produced]:
        self.threads.add(threading.get_ident())
        self.steps += 1
        self._loop.call_soon_threadsafe(self.entered.put_nowait, self.steps)
        if self.permits:
            assert self.permits.acquire(timeout=10)
        if self.steps == self.fails_at:
            raise RuntimeError("the engine is done for")
        produced: list[Produced] = []
        for key, sequence in list(self.sequences.items()):
            sequence.emitted.append(self.steps)
            finish: FinishReason | None = None if sequence.remaining else "length"
            later = sequence.later.get(self.steps) if isinstance(sequence, Drawn) else None
            produced.append(Computed(key, (), finish, later=later) if later else Token(key, self.steps, finish))
            if not sequence.remaining:
                del self.sequences[key]
        return produced

    def settle(self) -> None:
        self.threads.add(threading.get_ident())
        self.settled += 1

    def rest(self) -> None:
        self.threads.add(threading.get_ident())
        self.rested.set()

    def bind(self, limit_bytes: int | None) -> None:
        self.threads.add(threading.get_ident())
        self.limits.append(limit_bytes)

    def memory(self) -> MlxMemory | None:
        return MlxMemory(self.steps, 0, True)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class FakeTurns:
    """Turns that the test gives, and the others that it says there are."""

    def __init__(self, handler: FakeHandler) -> None:
        self.held = False
        self.wanted = False
        self.told: list[str] = []
        self._handler = handler
        self._free = threading.Semaphore(1)
        self._stopped = False
        self.waiting: asyncio.Queue[None] = asyncio.Queue()
        self.released: asyncio.Queue[None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def take_away(self) -> None:
        """Another process has its turn."""
        assert self._free.acquire(timeout=10)

    def give_back(self) -> None:
        self._free.release()

    def acquire(self) -> bool:
        if self.held:
            return True
        self._loop.call_soon_threadsafe(self.waiting.put_nowait, None)
        assert self._free.acquire(timeout=10)
        self.held = not self._stopped
        if self.held:
            self.told.append(f"taken before step {self._handler.steps + 1}")
        return self.held

    def release(self) -> None:
        if self.held:
            self.held = False
            self._loop.call_soon_threadsafe(self.released.put_nowait, None)
            self.told.append(f"given back after step {self._handler.steps}, {self._handler.settled} times settled")
            self._free.release()

    def stop(self) -> None:
        self._stopped = True
        self._free.release()


class World:
    """An engine thread with a fake handler. Steps are handled at once, or not at all."""

    def __init__(self, handler: FakeHandler, *, handles: bool = True, turns: FakeTurns | None = None) -> None:
        self.handler = handler
        self.steps: asyncio.Queue[list[Produced]] = asyncio.Queue()
        self.crashes: asyncio.Queue[BaseException] = asyncio.Queue()
        self.loadings: list[Loading] = []
        self.handles = handles
        self.slept: list[float] = []
        self._turns = turns
        self.engine = EngineThread(handler, self._on_step, self.crashes.put_nowait, turns, self.slept.append)

    @property
    def turns(self) -> FakeTurns:
        assert self._turns is not None
        return self._turns

    def _on_step(self, produced: list[Produced]) -> None:
        self.steps.put_nowait(produced)
        if self.handles:
            self.engine.step_handled()


def sequence(number: int, tokens: int = 3) -> Sequence:
    return Sequence((number, 0), [0], tokens)


@asynccontextmanager
async def loaded(*, gated: bool = False, handles: bool = True, shared: bool = False) -> AsyncIterator[World]:
    async with asyncio.timeout(20):
        handler = FakeHandler(gated=gated)
        world = World(handler, handles=handles, turns=FakeTurns(handler) if shared else None)
        assert await world.engine.load(SPEC, world.loadings.append) == FACTS
        yield world
        await world.engine.stop()


def test_all_that_touches_the_model_runs_on_one_thread() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            world.engine.add(sequence(1, 1000))
            world.engine.add(sequence(2, 1))
            for _ in range(3):
                await world.steps.get()
            world.engine.remove((1, 0))
        assert world.handler.closed == 1
        assert len(world.handler.threads) == 1
        assert threading.get_ident() not in world.handler.threads

    asyncio.run(scenario())


def test_load_reports_on_the_loop_and_raises_what_the_handler_raises() -> None:
    async def scenario() -> None:
        world = World(FakeHandler(load_error=ModelLoadError("no such model")))
        with pytest.raises(ModelLoadError, match="no such model"):
            await world.engine.load(SPEC, world.loadings.append)
        assert world.loadings == [Loading("half", 1, 2)]
        await asyncio.wait_for(world.engine.stop(), 5)

    asyncio.run(scenario())


def test_steps_are_made_only_while_there_is_work() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            assert world.handler.steps == 0
            for number in (1, 2):
                world.engine.add(sequence(number, 3))
                assert [await world.steps.get() for _ in range(3)][-1] == [Token((number, 0), 3 * number, "length")]
        assert world.handler.steps == 6

    asyncio.run(scenario())


def test_commands_given_during_a_step_are_obeyed_before_the_next() -> None:
    async def scenario() -> None:
        async with loaded(gated=True) as world:
            assert world.handler.permits
            world.engine.add(sequence(1, 10))
            assert await world.handler.entered.get() == 1
            world.engine.add(sequence(2, 10))
            world.engine.remove((1, 0))
            world.handler.permits.release()
            assert await world.steps.get() == [Token((1, 0), 1)]
            world.handler.permits.release()
            assert await world.steps.get() == [Token((2, 0), 2)]
            world.engine.remove((2, 0))
            world.handler.permits.release()

    asyncio.run(scenario())


def test_step_s_tells_how_long_the_current_step_takes() -> None:
    async def scenario() -> None:
        async with loaded(gated=True) as world:
            assert world.handler.permits
            assert world.engine.step_s == 0.0
            world.engine.add(sequence(1, 1))
            await world.handler.entered.get()
            first = world.engine.step_s
            assert 0.0 < first < world.engine.step_s
            world.handler.permits.release()
            await world.steps.get()
            assert world.engine.step_s == 0.0

    asyncio.run(scenario())


def test_the_engine_waits_for_a_loop_that_lags() -> None:
    async def scenario() -> None:
        async with loaded(handles=False) as world:
            world.engine.add(sequence(1, 1000))
            for _ in range(UNREAD_STEPS):
                await world.steps.get()
            for handled in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(world.steps.get(), 0.1)
                assert world.handler.steps == UNREAD_STEPS + handled + 1
                assert world.engine.step_s == 0.0, "waiting for the loop is no step that hangs"
                world.engine.step_handled()
                await world.steps.get()
            world.engine.remove((1, 0))
            world.handles = True
            world.engine.step_handled()

    asyncio.run(scenario())


def test_a_step_that_raises_ends_the_thread_and_is_told() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            world.handler.fails_at = 2
            world.engine.add(sequence(1, 10))
            error = await world.crashes.get()
            assert str(error) == "the engine is done for"
            assert (world.handler.closed, world.engine.step_s) == (1, 0.0)

    asyncio.run(scenario())


def test_a_command_that_raises_ends_the_thread_and_is_told() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            world.engine.remove((99, 0))
            assert isinstance(await world.crashes.get(), KeyError)

    asyncio.run(scenario())


def test_stop_waits_for_the_current_step_and_the_release() -> None:
    async def scenario() -> None:
        async with loaded(gated=True) as world:
            assert world.handler.permits
            world.engine.add(sequence(1, 10))
            await world.handler.entered.get()
            stopping = asyncio.ensure_future(world.engine.stop())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(stopping), 0.1)
            assert world.handler.closed == 0
            world.handler.permits.release()
            await stopping
            assert (world.handler.closed, world.handler.steps) == (1, 1)
            assert world.crashes.empty()

    asyncio.run(scenario())


def test_the_turn_is_kept_from_step_to_step_and_given_back_when_there_is_nothing_to_do() -> None:
    async def scenario() -> None:
        async with loaded(shared=True) as world:
            world.engine.add(sequence(1, 3))
            for _ in range(3):
                await world.steps.get()
            await world.turns.released.get()
        assert world.turns.told == ["taken before step 1", "given back after step 3, 1 times settled"]

    asyncio.run(scenario())


def test_the_turn_is_given_back_after_each_step_while_others_want_it() -> None:
    async def scenario() -> None:
        async with loaded(shared=True) as world:
            world.turns.wanted = True
            world.engine.add(sequence(1, 2))
            for _ in range(2):
                await world.steps.get()
        assert world.turns.told == [
            "taken before step 1",
            "given back after step 1, 1 times settled",
            "taken before step 2",
            "given back after step 2, 2 times settled",
        ]

    asyncio.run(scenario())


def test_waiting_for_the_turn_is_no_step_that_hangs() -> None:
    async def scenario() -> None:
        async with loaded(shared=True) as world:
            world.turns.take_away()
            world.engine.add(sequence(1, 1))
            await world.turns.waiting.get()
            assert (world.engine.step_s, world.handler.steps) == (0.0, 0)
            world.turns.give_back()
            assert await world.steps.get() == [Token((1, 0), 1, "length")]

    asyncio.run(scenario())


def test_the_turn_is_not_kept_while_the_loop_lags() -> None:
    async def scenario() -> None:
        async with loaded(handles=False, shared=True) as world:
            world.engine.add(sequence(1, 1000))
            for _ in range(UNREAD_STEPS):
                await world.steps.get()
            await world.turns.released.get()
            assert world.handler.steps == UNREAD_STEPS + 1
            world.engine.remove((1, 0))
            world.handles = True
            world.engine.step_handled()

    asyncio.run(scenario())


def test_an_engine_that_waits_for_its_turn_can_be_stopped() -> None:
    async def scenario() -> None:
        async with loaded(shared=True) as world:
            world.turns.take_away()
            world.engine.add(sequence(1, 10))
            await world.turns.waiting.get()
            await world.engine.stop()
            assert (world.handler.steps, world.handler.closed) == (0, 1)
            assert world.crashes.empty()

    asyncio.run(scenario())


def test_only_what_computes_of_a_load_needs_the_turn() -> None:
    async def scenario() -> None:
        handler = FakeHandler()
        handler.loadings = [
            Loading("downloading"),
            Loading("loading weights", 0, 2, computes=True),
            Loading("loading weights", 1, 2, computes=True),
            Loading("downloading a draft"),
            Loading("warming up", computes=True),
        ]
        turns = FakeTurns(handler)
        world = World(handler, turns=turns)
        await world.engine.load(SPEC, world.loadings.append)
        assert world.loadings == handler.loadings
        assert turns.told == [
            "taken before step 1",
            "given back after step 0, 1 times settled",
            "taken before step 1",
            "given back after step 0, 2 times settled",
        ]
        await world.engine.stop()

    asyncio.run(scenario())


def test_a_load_that_waits_for_its_turn_can_be_stopped() -> None:
    async def scenario() -> None:
        handler = FakeHandler()
        handler.loadings = [Loading("warming up", computes=True)]
        turns = FakeTurns(handler)
        turns.take_away()
        world = World(handler, turns=turns)
        loading = asyncio.ensure_future(world.engine.load(SPEC, world.loadings.append))
        await turns.waiting.get()
        await world.engine.stop()
        with pytest.raises(ModelLoadError, match="was stopped"):
            await loading

    asyncio.run(scenario())


def test_the_handler_is_told_how_much_it_may_hold_on_its_own_thread() -> None:
    async def scenario() -> None:
        handler = FakeHandler()
        world = World(handler)
        await world.engine.load(replace(SPEC, memory_bytes=1000), world.loadings.append)
        world.engine.bind(500)
        world.engine.add(sequence(1, 1))
        await world.steps.get()
        assert (handler.limits, len(handler.threads)) == ([1000, 500], 1)
        await world.engine.stop()

    asyncio.run(scenario())


def test_an_engine_with_nothing_to_do_gives_memory_back() -> None:
    async def scenario() -> None:
        handler = FakeHandler()
        world = World(handler)
        await world.engine.load(SPEC, world.loadings.append)
        assert await asyncio.to_thread(handler.rested.wait, 30)
        world.engine.add(sequence(1, 1))
        await world.steps.get()
        await world.engine.stop()

    asyncio.run(scenario())


def test_memory_is_what_it_is_now() -> None:
    async def scenario() -> None:
        world = World(FakeHandler())
        assert world.engine.memory is None
        await world.engine.load(SPEC, world.loadings.append)
        assert world.engine.memory == MlxMemory(0, 0, True)
        world.engine.add(sequence(1, 3))
        for _ in range(3):
            await world.steps.get()
        assert world.engine.memory == MlxMemory(3, 0, True)
        await world.engine.stop()

    asyncio.run(scenario())


def test_the_next_step_does_not_wait_for_results_that_are_made_later_and_nothing_overtakes_them() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            go_on = threading.Event()
            score = Score(1, 0, 0.5)

            def slowly() -> tuple[Score]:
                assert go_on.wait(10)
                return (score,)

            world.engine.add(Drawn((1, 0), [0], 3, later={1: slowly}))
            for step in (1, 2, 3):
                assert await world.handler.entered.get() == step
            assert world.steps.empty()
            go_on.set()
            assert await world.steps.get() == [Computed((1, 0), (score,))]
            assert [await world.steps.get() for _ in range(2)] == [[Token((1, 0), 2)], [Token((1, 0), 3, "length")]]

    asyncio.run(scenario())


def test_results_that_can_not_be_made_end_their_request() -> None:
    async def scenario() -> None:
        async with loaded() as world:

            def full() -> tuple[Score]:
                raise OSError("the disk is full")

            world.engine.add(Drawn((1, 0), [0], 1, later={1: full}))
            assert await world.steps.get() == [Broken((1, 0), "OSError: the disk is full")]

    asyncio.run(scenario())


def test_only_what_is_computed_with_others_is_waited_for() -> None:
    async def scenario() -> None:
        async with loaded() as world:
            for made, waits in ((sequence(1, 1), 1), (Drawn((2, 0), [0], 1), 1), (sequence(3, 1), 2)):
                world.engine.add(made)
                await world.steps.get()
                assert len(world.slept) == waits

    asyncio.run(scenario())
