"""Embeddings and scores out of a real worker process, through the real queue."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from support.computing import SENTENCES, close, embedding, scoring
from support.running.supervised import Supervised

from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.messages import Event, Failed, Finished, Score, Vector
from mlx_server.schemas.internal.work import Work

pytestmark = pytest.mark.model


def _submit(worker: Supervised, request: Work) -> Ticket:
    return worker.queue.submit(request, whole=True)


async def _ask(worker: Supervised, request: Work) -> list[Event]:
    return await worker.answer(_submit(worker, request))


def _vectors(events: list[Event]) -> dict[int, list[float]]:
    return {event.index: np.frombuffer(event.values, "<f4").tolist() for event in events if isinstance(event, Vector)}


def test_vectors_come_out_of_a_worker_process(minilm: Path) -> None:
    async def scenario() -> None:
        async with Supervised(str(minilm), "embeddings", rows=8) as worker:
            [facts] = worker.all_told("ready")
            assert (facts.rows, facts.dimensions) == (8, 384)
            together = await _ask(worker, embedding(*SENTENCES))
            assert together[-1] == Finished(together[-1].ticket, 0, "stop", together[-1].prompt_tokens, 0, 0)
            apart = await asyncio.gather(*(_ask(worker, embedding(text)) for text in SENTENCES))
            assert close([_vectors(events)[0] for events in apart], [_vectors(together)[n] for n in range(5)])
            scored = await _ask(worker, scoring((SENTENCES[0], SENTENCES[0])))
            assert [event.score for event in scored if isinstance(event, Score)] == [pytest.approx(1)]

    asyncio.run(scenario())


def test_a_small_request_is_answered_while_a_giant_one_goes_on(minilm: Path) -> None:
    async def scenario() -> None:
        async with Supervised(str(minilm), "embeddings", rows=8) as worker:
            giant = _submit(worker, embedding(*(f"{number} is a number. " * 20 for number in range(80))))
            await worker.hears("step")
            small = await _ask(worker, embedding("Hi"))
            assert len(_vectors(small)) == 1
            done = {event.index for event in worker.delivered if isinstance(event, Vector) and event.ticket == giant.id}
            assert len(done) < 80, "the giant one is not through"
            assert len(_vectors(await worker.answer(giant))) == 80

    asyncio.run(scenario())


def test_a_client_that_leaves_midway_stops_its_request(minilm: Path) -> None:
    async def scenario() -> None:
        async with Supervised(str(minilm), "embeddings", rows=1) as worker:
            giant = _submit(worker, embedding(*(f"{number} is a number. " * 20 for number in range(2000))))
            await worker.hears("step")
            worker.queue.cancel(giant)
            assert len(_vectors(await _ask(worker, embedding("Hi")))) == 1
            assert sum(isinstance(event, Vector) and event.ticket == giant.id for event in worker.delivered) < 2000

    asyncio.run(scenario())


def test_a_refusal_names_the_input(minilm: Path) -> None:
    async def scenario() -> None:
        async with Supervised(str(minilm), "embeddings", rows=1) as worker:
            [failed] = await _ask(worker, embedding("Hi", "cat " * 300))
            assert isinstance(failed, Failed)
            assert (failed.param, failed.code) == ("input[1]", "context_length_exceeded")

    asyncio.run(scenario())
