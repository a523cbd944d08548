"""`GET /v1/live`: what the server does now, to all who listen, and at no cost while nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.loop_clock import LoopClock
from mlx_server.app.encoders import sse
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.http.responder import WatchedResponse, start_of_stream
from mlx_server.app.views.live import describe_model, describe_request, places_of
from mlx_server.queue.statistics import RECENT_S
from mlx_server.schemas.live import LiveModel, LiveState

INTERVAL_S = 1.0
MEMORY_S = 5.0
"""How often the memory of processes is looked at, which takes milliseconds."""

MOST_LISTENERS = 64
MOST_REQUESTS = 200


class Feed:
    """Looks at the models once for all listeners, each of whom gets an event when it is due and it can take one.

    `answered` counts answers by status.
    """

    def __init__(self, fleet: Fleet, keys: KeyRing, answered: Mapping[int, int]) -> None:
        self._fleet = fleet
        self._keys = keys
        self._answered = answered
        self._clock = LoopClock()
        self._listeners = 0
        self._closed = asyncio.Event()
        self._models: list[LiveModel] = []
        self._looked_at = -2 * INTERVAL_S
        self._tokens: dict[str, int] = {}
        self._memory: dict[str, int] = {}
        self._measured_at = -MEMORY_S

    def listen(self, owner: str | None) -> FeedResponse:
        """A stream for who may see an owner's requests, or everybody's with None. Raises HTTPException."""
        if self._listeners >= MOST_LISTENERS:
            raise HTTPException(503, f"{MOST_LISTENERS} clients listen already; come again later.")
        self._listeners += 1
        return FeedResponse(self, owner)

    def left(self) -> None:
        """One listens no longer."""
        self._listeners -= 1

    def close(self) -> None:
        """End all streams. Idempotent."""
        self._closed.set()

    async def wait(self) -> bool:
        """Until the next event is due; False if there will be none."""
        try:
            async with asyncio.timeout(INTERVAL_S):
                await self._closed.wait()
        except TimeoutError:
            return True
        return False

    async def state(self, owner: str | None) -> LiveState:
        """How everything is."""
        now, deployments = self._clock.time(), self._fleet.deployments
        if now - self._measured_at >= MEMORY_S:
            self._measured_at = now
            self._memory = await to_thread.run_sync(lambda: {one.name: one.memory_bytes() for one in deployments})
        if now - self._looked_at >= INTERVAL_S / 2:
            self._look(now)
        places = places_of(deployments, owner)
        shown = places[:MOST_REQUESTS]
        return LiveState(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            window_s=RECENT_S,
            memory_limit_bytes=self._fleet.ledger.limit_bytes,
            too_many_requests=self._answered.get(429, 0),
            models=self._models,
            requests=[describe_request(place, now, self._keys.name_of) for place in shown],
            more_requests=len(places) - len(shown),
            waiting_requests=sum(place.position is not None for place in places),
        )

    def _look(self, now: float) -> None:
        passed, before = now - self._looked_at, self._tokens
        if passed > 2 * INTERVAL_S:  # nobody has listened since
            before = {}
        granted = self._fleet.ledger.granted

        def describe(one: Deployment) -> LiveModel:
            tokens = one.queue.statistics.completion_tokens
            speed = (tokens - before[one.name]) / passed if one.name in before else None
            return describe_model(one, now, speed, self._memory.get(one.name, 0), granted.get(one.name))

        self._models = [describe(one) for one in self._fleet.deployments]
        self._looked_at, self._tokens = now, {one.name: one.tokens for one in self._models}


class FeedResponse(WatchedResponse):
    """One listener's stream. Events that it is too slow for are not made."""

    def __init__(self, feed: Feed, owner: str | None) -> None:
        self._feed = feed
        self._owner = owner

    def leave(self) -> None:
        """Make room for another."""
        self._feed.left()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An event about once a second, until the server stops."""
        await send(start_of_stream({}))
        more = scope["method"] != "HEAD"
        while more:
            event = sse.event(await self._feed.state(self._owner))
            await send({"type": "http.response.body", "body": event, "more_body": True})
            more = await self._feed.wait()
        await send({"type": "http.response.body", "body": b""})
