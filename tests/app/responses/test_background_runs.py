"""What becomes of responses in the background whose store refuses them: with a fake worker, in this process."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from support.running.queues import Harness

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses import ResponsesEncoder
from mlx_server.app.responses.background import MOST_UNKEPT, BackgroundRuns, Run
from mlx_server.app.responses.response_records import ResponseSaver, response_of
from mlx_server.app.responses.response_store import Record, ResponseStore
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.openai.responses_answer import Response
from mlx_server.schemas.openai.responses_items import MessageItem
from mlx_server.schemas.parsing.parse import parse

ALWAYS = 1 << 30
RETRY_S = 0.01


class RefusingStore(ResponseStore):
    """The tries of these numbers, from 1 on, fail."""

    def __init__(self, refused: range) -> None:
        super().__init__(None, max_bytes=1 << 30, max_age_s=1000)
        self.refused = refused
        self.tries = 0

    async def put(self, record: Record) -> None:
        self._try()
        await super().put(record)

    async def replace(self, record: Record) -> bool:
        self._try()
        return await super().replace(record)

    def _try(self) -> None:
        self.tries += 1
        if self.tries in self.refused:
            raise sqlite3.OperationalError("database or disk is full")


@dataclass
class Background:
    """Responses with one store, each of which its worker has served."""

    store: RefusingStore
    runs: BackgroundRuns = field(default_factory=lambda: BackgroundRuns(RETRY_S))
    harness: Harness = field(default_factory=Harness)

    async def made(self, name: str = "1", meanwhile: Callable[[Run], Awaitable[object]] | None = None) -> Run:
        """A response that has come to its end."""
        body = json.dumps({"input": "Hello", "background": True, "stream": True}).encode()
        turn = Turn(parse(body, openai_responses.decoder, HARMLESS)[0])
        encoder = ResponsesEncoder(Head(name, 1000, "model"), turn, lambda asked: asked, store=True)
        ticket = self.harness.submit()
        run = Run(
            self.harness.queue, ticket, encoder, ResponseSaver(self.store, "me", turn, None, stored=True), streamed=True
        )
        self.runs.start(run)
        await run.saved.wait()
        if meanwhile is not None:
            await meanwhile(run)
        self.harness.say(ticket, "Hi")
        self.harness.finish(ticket)
        await run.ended.wait()
        return run

    async def stored(self, run: Run) -> Response | None:
        """A response as the store has it."""
        record = await self.store.get(run.response.id, "me")
        return None if record is None else response_of(record)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that the runs do by themselves."""
        for _ in range(1000):
            if true():
                return
            await asyncio.sleep(RETRY_S)
        raise AssertionError


def play(refused: range, scenario: Callable[[Background], Awaitable[None]]) -> None:
    """A scenario whose store refuses some tries."""

    async def whole() -> None:
        background = Background(RefusingStore(refused))
        await scenario(background)
        await background.runs.close()
        background.store.close()

    asyncio.run(whole())


@pytest.mark.parametrize("refused", [range(2, 5), range(1, 5)], ids=["end", "all"])
def test_end_that_is_refused_is_known_and_tried_again(refused: range) -> None:
    async def scenario(background: Background) -> None:
        run = await background.made()
        assert background.runs.get(run.response.id, "me") is run
        assert (run.response.status, run.response.store) == ("completed", False)
        assert b"response.completed" in run.events[-1]
        await background.until(lambda: background.runs.get(run.response.id, "me") is None)
        assert await background.stored(run) == msgspec.structs.replace(run.response, store=True)
        assert background.store.tries == 5

    play(refused, scenario)


def test_end_that_is_always_refused_is_known() -> None:
    async def scenario(background: Background) -> None:
        run = await background.made()
        await background.until(lambda: background.store.tries > 4)
        assert background.runs.get(run.response.id, "me") is run
        assert [item.role for item in run.said if isinstance(item, MessageItem)] == ["user", "assistant"]
        others = [await background.made(str(number)) for number in range(2, MOST_UNKEPT + 2)]
        known = [one for one in (run, *others) if background.runs.get(one.response.id, "me")]
        assert len(known) == MOST_UNKEPT

    play(range(2, ALWAYS), scenario)


def test_end_that_is_forgotten_is_not_tried_again() -> None:
    async def scenario(background: Background) -> None:
        run = await background.made()
        background.runs.forget(run)
        other = await background.made("2")
        background.store.refused = range(0)
        await background.until(lambda: background.runs.get(other.response.id, "me") is None)
        assert await background.stored(run) is None
        assert await background.stored(other) is not None

    play(range(1, ALWAYS), scenario)


def test_what_was_deleted_by_another_server_stays_so_at_its_end() -> None:
    async def scenario(background: Background) -> None:
        run = await background.made(meanwhile=lambda run: background.store.delete(run.response.id, "me"))
        assert run.kept
        assert await background.stored(run) is None

    play(range(0), scenario)
