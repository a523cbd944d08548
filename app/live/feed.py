"""`GET /v1/live`: what the server does now, to all who listen, and at no cost while nobody does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from anyio import to_thread
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.loop_clock import LoopClock
from mlx_server.app.encoders import sse
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.keys import Credential, KeyRing, credential_of
from mlx_server.app.http.responder import WatchedResponse, start_of_stream
from mlx_server.app.live.parts import Parts
from mlx_server.app.tasks import Tasks
from mlx_server.app.views.live import describe_model, describe_request, places_of, sum_up
from mlx_server.queue.statistics import RECENT_S
from mlx_server.schemas.live import LiveModel, LivePoint, LiveState

INTERVAL_S = 1.0
MEMORY_S = 5.0
"""How often the memory of processes is looked at, which takes milliseconds."""

POINT_S = 5.0
MOST_POINTS = 60
"""How often it is looked at what plots show, and how often it is known: for five minutes."""

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
        self._tasks = Tasks("the live feed")
        self._models: list[LiveModel] = []
        self._rates, self._rates_of_points = Rates(0.0), Rates(0.0)
        self._now = sum_up([], 0.0, 0.0)
        self._points: deque[tuple[float, LivePoint]] = deque(maxlen=MOST_POINTS)
        self._looked_at = -INTERVAL_S
        self._tokens: dict[str, int] = {}
        self._memory: dict[str, int] = {}
        self._measured_at = -MEMORY_S

    def start(self) -> None:
        """Remember what plots show, also while nobody listens, until the feed is closed."""
        now = self._clock.time()
        self._rates, self._rates_of_points = Rates(now), Rates(now)
        self._tasks.spawn(self._remember())

    def listen(self, request: Request, owner: str | None, parts: Collection[str]) -> FeedResponse:
        """A stream for who may see an owner's requests, or everybody's with None, and these parts beside them.

        Raises HTTPException.
        """
        if self._listeners >= MOST_LISTENERS:
            raise HTTPException(503, f"{MOST_LISTENERS} clients listen already; come again later.")
        self._listeners += 1
        return FeedResponse(self, owner, Parts(request, parts), credential_of(request))

    def left(self) -> None:
        """One listens no longer."""
        self._listeners -= 1

    def close(self) -> None:
        """End all streams. Idempotent."""
        self._closed.set()

    async def wait(self, credential: Credential | None = None, seconds: float = INTERVAL_S) -> bool:
        """Until the next event is due; False if there will be none, as the server stops or the key was changed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return credential is None or self._keys.knows(credential)
        return False

    async def state(self, owner: str | None, *, is_first: bool) -> LiveState:
        """How everything is; with what was, for a listener's first event."""
        now, deployments = self._clock.time(), self._fleet.deployments
        if now - self._measured_at >= MEMORY_S:
            self._measured_at = now
            self._memory = await to_thread.run_sync(lambda: {one.name: one.memory_bytes() for one in deployments})
        self._look(now)
        places = places_of(deployments, owner)
        shown = places[:MOST_REQUESTS]
        return LiveState(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            window_s=RECENT_S,
            memory_limit_bytes=self._fleet.ledger.limit_bytes,
            too_many_requests=self._refused,
            history=[replace(point, age_s=round(now - at, 1)) for at, point in self._points] if is_first else None,
            now=self._now,
            models=self._models,
            requests=[describe_request(place, now, self._keys.name_of) for place in shown],
            more_requests=len(places) - len(shown),
            waiting_requests=sum(place.position is not None for place in places),
        )

    async def _remember(self) -> None:
        while await self.wait(seconds=POINT_S):
            now = self._clock.time()
            self._look(now)
            tokens, refused = self._rates_of_points.at(now, self._written, self._refused)
            self._points.append((now, replace(self._now, tokens_per_s=tokens, refused_per_s=refused)))

    def _look(self, now: float) -> None:
        """Look at the models, unless somebody has a moment ago."""
        passed, before = now - self._looked_at, self._tokens
        if passed < INTERVAL_S / 2:
            return
        granted = self._fleet.ledger.granted

        def describe(one: Deployment) -> LiveModel:
            tokens = one.queue.statistics.completion_tokens
            speed = (tokens - before[one.name]) / passed if one.name in before else None
            return describe_model(one, now, speed, self._memory.get(one.name, 0), granted.get(one.name))

        self._models = [describe(one) for one in self._fleet.deployments]
        self._looked_at, self._tokens = now, {one.name: one.tokens for one in self._models}
        self._now = sum_up(self._models, *self._rates.at(now, self._written, self._refused))

    @property
    def _written(self) -> int:
        return sum(self._tokens.values())

    @property
    def _refused(self) -> int:
        return self._answered.get(429, 0)


class Rates:
    """How fast tokens and answers with 429 come, between one look at their counts and the next."""

    def __init__(self, began: float) -> None:
        self._before = (began, 0, 0)

    def at(self, now: float, tokens: int, refused: int) -> tuple[float, float]:
        """Both per second. Tokens of a model that is gone are not missed."""
        at, written, turned_away = self._before
        self._before = (now, tokens, refused)
        return round(max(0, tokens - written) / (now - at), 1), round((refused - turned_away) / (now - at), 1)


class FeedResponse(WatchedResponse):
    """One listener's stream. Events that it is too slow for are not made."""

    def __init__(self, feed: Feed, owner: str | None, parts: Parts, credential: Credential) -> None:
        self._feed = feed
        self._owner = owner
        self._parts = parts
        self._credential = credential

    def leave(self) -> None:
        """Make room for another."""
        self._feed.left()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An event about once a second, until the server stops or the client's key may no longer see it."""
        await send(start_of_stream({}))
        more, is_first = scope["method"] != "HEAD", True
        while more:
            state = await self._feed.state(self._owner, is_first=is_first)
            event = sse.event(replace(state, **await self._parts.now()))
            await send({"type": "http.response.body", "body": event, "more_body": True})
            more, is_first = await self._feed.wait(self._credential), False
        await send({"type": "http.response.body", "body": b""})
