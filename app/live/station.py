"""Where Socket.IO's clients come to, and where events come from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from mlx_server.app.http.errors import INVALID, SERVER, Answer
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.machine.meter import Meter
from mlx_server.app.middleware.operator import is_own_origin
from mlx_server.app.views.inference import InferenceMeter
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.schemas.impetus.live import LiveEvent

if TYPE_CHECKING:
    from mlx_server.app.live.listeners import Listeners

Watch = Callable[[Callable[[LiveEvent], None]], Callable[[], None]]
"""Has events told to a callback; what it returns ends that."""

INTERVAL_S = 3.0
MAX_SESSIONS = 256
MAX_PENDING = 256
MAX_BODY_BYTES = 1 << 14

log = logging.getLogger(__name__)


class Station:
    """An ASGI application. Socket.IO itself is loaded when the first client comes, beside everybody's streams.

    `snapshot` is what every new listener is told, `queues` are the models' by name, `watches` where events come from.
    """

    def __init__(
        self,
        keys: KeyRing,
        meter: Meter,
        *,
        snapshot: Callable[[], Sequence[LiveEvent]],
        queues: Callable[[], Mapping[str, Dispatcher]],
        watches: Sequence[Watch] = (),
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._keys = keys
        self._meter = meter
        self._snapshot = snapshot
        self._queues = queues
        self._watches = watches
        self._interval_s = interval_s
        self._listeners: Listeners | None = None
        self._loading = asyncio.Lock()
        self._woken = asyncio.Event()
        self._pending: deque[LiveEvent] = deque(maxlen=MAX_PENDING)
        self._tasks: list[asyncio.Task[None]] = []
        self._unwatch: list[Callable[[], None]] = []
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request or WebSocket."""
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.response(scope)(scope, receive, send)
            return
        listeners = await self._opened()
        if b"sid=" not in scope["query_string"] and listeners.connections >= MAX_SESSIONS:
            crowded = Answer(503, SERVER, f"{MAX_SESSIONS} clients are connected already; come again later.")
            await crowded.response(scope)(scope, receive, send)
            return
        await listeners.handle(scope, receive, send)

    def publish(self, event: LiveEvent) -> None:
        """Send an event to everybody, soon; of very many events at once the oldest are left out."""
        if self._listeners is not None and self._listeners.count:
            self._pending.append(event)
            self._woken.set()

    async def close(self) -> None:
        """End all sessions. Idempotent."""
        self._closed = True
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        listeners, self._listeners = self._listeners, None
        if listeners is not None:
            await listeners.close()

    def _refusal(self, scope: Scope) -> Answer | None:
        headers = Headers(scope=scope)
        if self._closed:
            return Answer(503, SERVER, "The server is shutting down.", code="shutting_down")
        if not all(is_own_origin(origin, headers.get("host", "")) for origin in headers.getlist("origin")):
            return Answer(403, "permission_error", "Pages of other sites may not listen here.", code="forbidden")
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return Answer(413, INVALID, f"A body here has at most {MAX_BODY_BYTES} bytes, and says how many.")
        return None

    async def _opened(self) -> Listeners:
        async with self._loading:
            if self._listeners is None:
                await to_thread.run_sync(load)
                from mlx_server.app.live.listeners import Listeners

                self._listeners = Listeners(self._keys, self._snapshot, self._woken.set)
                self._unwatch += [watch(self.publish) for watch in self._watches]
                loop = asyncio.get_running_loop()
                self._tasks += [loop.create_task(self._emit_pending()), loop.create_task(self._tick())]
            return self._listeners

    async def _emit_pending(self) -> None:
        """Bring events to the listeners, in order."""
        assert self._listeners is not None
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._listeners.greet()
            while self._pending:
                await self._listeners.emit(self._pending.popleft())

    async def _tick(self) -> None:
        """Make what is told every few seconds, while anybody listens."""
        inference = InferenceMeter()
        went_well = True
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._tell_round(inference)
                went_well = True
            except Exception:
                if went_well:
                    log.exception("listeners can't be told what happens")
                went_well = False

    async def _tell_round(self, inference: InferenceMeter) -> None:
        assert self._listeners is not None
        await self._listeners.sweep()
        if self._listeners.count:
            self.publish(inference.read(self._queues()))
            with contextlib.suppress(OSError):  # what can't be read this time may be the next
                self.publish(await self._meter.metrics())


def load() -> None:
    """Import what takes a third of a second. Blocks."""
    import mlx_server.app.live.listeners  # noqa: F401
