"""What a worker has its engine do with a sequence that makes way, without an engine."""

import asyncio
from pathlib import Path

from support.running.supervised import script

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Grant, Park, Submit
from mlx_server.workers.channel import Channel
from mlx_server.workers.child.engine_thread import EngineThread
from mlx_server.workers.child.process import WorkerProcess
from mlx_server.workers.engine.sequence import Key, Sequence, Token
from mlx_server.workers.handlers.scripted import ScriptedHandler


class Commands(EngineThread):
    """Writes down what it is told, and wakes who waits for it."""

    def __init__(self, worker: WorkerProcess, handler: ScriptedHandler) -> None:
        super().__init__(handler, worker._on_step, worker._on_crash)
        self.told: list[tuple[str, Key]] = []
        self.begun = asyncio.Event()

    def add(self, sequence: Sequence) -> None:
        self.told.append(("add", sequence.key))
        self.begun.set()

    def remove(self, key: Key) -> None:
        self.told.append(("remove", key))


def test_a_sequence_that_ended_while_it_made_way_and_came_back_is_dropped() -> None:
    async def scenario() -> None:
        worker = WorkerProcess(Path("/dev/null/nowhere"), ())
        worker.attach(Channel(messages.decode_to_worker, worker.on_message, lambda: None))
        worker._handler = ScriptedHandler()
        worker._engine = engine = Commands(worker, worker._handler)
        worker.on_message(Submit(1, GenerationRequest((TextPrompt(script(tokens=1)),), 9), 1))
        await asyncio.wait_for(engine.begun.wait(), 10)
        worker.on_message(Park(1))
        worker.on_message(Grant(1, 1))
        worker._on_step([Token((1, 0), 0, "length")])
        assert engine.told == [(what, (1, 0)) for what in ("add", "remove", "add", "remove")]

    asyncio.run(scenario())
