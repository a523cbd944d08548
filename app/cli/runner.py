"""Runs the application on a socket until it is told to stop: drain first, exit code 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from rich.console import Console

from mlx_server.app.catalog.errors import FleetError
from mlx_server.app.cli.console import StartDisplay
from mlx_server.app.config.settings import Settings
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.fleet.reload import ReloadReport
from mlx_server.app.http.services import Services
from mlx_server.app.machine.notify import notify
from mlx_server.app.server.acceptor import Acceptor
from mlx_server.app.server.server import create_app
from mlx_server.app.server.uvicorn_protocol import HttpProtocol
from mlx_server.app.storage.database import StoreError
from mlx_server.workers.parent.starts import WorkerStarts

KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that none is closed under a request."""

BACKLOG = 2048

NO_MODEL = (
    "\nNo model is configured. Requests may name those that GET /v1/models lists; `mlx-server models pull ID` brings"
    " more, and --model-path PATH serves one under any name."
)

LOOK_S = 0.2
"""How often it is looked whether all models are there."""

CLOSE_S = 2
"""How long clients get to read the end of their answers once nothing runs any more, in seconds."""


log = logging.getLogger(__name__)


class AddressError(Exception):
    """Raised when the address can't be listened on."""


class Server(uvicorn.Server):
    """uvicorn without its signal handling: a signal means draining here, which comes before closing sockets. Its
    connections are taken in crowds."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections from each socket."""
        await super().startup(sockets=[])
        self.listen(*(sockets or ()))

    def listen(self, *sockets: socket.socket) -> None:
        """Take connections from these, and no longer from others."""
        for one in self.servers:
            one.close()
        self.servers = [Acceptor(sock, self._connected) for sock in sockets]  # type: ignore[misc]  # looks like one

    def _connected(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(self.config, self.server_state, self.lifespan.state)
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the runner."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressError(
            f"can't listen on {host}:{port}: {error.strerror or error}. Choose another address with --host or --port."
        ) from None


def url_of(sock: socket.socket) -> str:
    """Where clients find it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Listening:
    """Where the server listens; that can change while it runs."""

    def __init__(self, server: Server, settings: Settings, sock: socket.socket) -> None:
        """`sock` is what it listens on from the start."""
        self._server = server
        self._address = settings.host, settings.port
        self._own = sock.getsockname()[:2]

    async def move(self, settings: Settings) -> str | None:
        """Listen there, and no longer at the old address; open connections go on. Returns why it can't."""
        address = settings.host, settings.port
        if address != self._address or not self._server.servers:
            try:
                sock = self._taken(*address)
            except AddressError as error:
                log.error("the address stays as it was: %s", error)
                return str(error)
            self._server.listen(sock)
            self._address, self._own = address, sock.getsockname()[:2]
            log.info("listening on %s", url_of(sock))
        tell_if_open(settings)
        return None

    def _taken(self, host: str, port: int) -> socket.socket:
        """A socket that listens there, beside the old one where the system allows that. Raises AddressError."""
        try:
            return listen(host, port)
        except AddressError:
            if port != self._own[1]:
                raise
        # The old address may be a part of the new one, or the other way round: Linux allows one at a time.
        self._server.listen()
        try:
            return listen(host, port)
        except AddressError:
            self._server.listen(listen(*self._own))
            raise


def tell_if_open(settings: Settings) -> None:
    """Warn where anybody on the network may use the server."""
    if not settings.api_keys and settings.host not in ("127.0.0.1", "localhost", "::1"):
        log.warning("anyone who reaches %s may use this server: there is no --api-key", settings.host)


async def run(
    settings: Settings,
    sock: socket.socket,
    console: Console,
    reread: Callable[[], Settings] | None = None,
    starts: WorkerStarts | None = None,
) -> str | None:
    """Serve until a signal comes; returns why the model could not be served, or None.

    SIGHUP, too, has the settings read again with `reread`.
    """
    display = StartDisplay(console, url_of(sock), names=settings.sole is None)
    try:
        app = create_app(settings, display.of, reread, starts)
    except (StoreError, FleetError, ValueError) as error:
        return str(error)
    shared: Services = app.state.services
    fleet, control = shared.fleet, shared.control
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Who asks is who is connected: anybody can write a header that says something else.
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",  # the protocol itself brings one
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        http=HttpProtocol,
    )
    server = Server(config)
    control.listen = Listening(server, settings, sock).move
    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    control.stop = stopping.set
    restarts: set[asyncio.Task[ReloadReport]] = set()

    def on_hangup() -> None:
        task = loop.create_task(control.restart())
        restarts.add(task)
        task.add_done_callback(restarts.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if not settings.models:
        display.listening(NO_MODEL)
    spare_the_collector()
    serving = loop.create_task(server.serve(sockets=[sock]))
    telling = loop.create_task(tell_when_ready(fleet))
    tasks = {loop.create_task(stopping.wait()), loop.create_task(fleet.start_error.wait()), serving}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    display.close()
    telling.cancel()
    notify("STOPPING=1")
    if stopping.is_set():
        await drain(fleet, hurry, console, settings.drain_timeout_s)
    await shared.live.close()
    shared.feed.close()
    server.should_exit = True
    await asyncio.wait([serving], timeout=CLOSE_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()  # its client does not read what was left to say
    await serving
    for task in tasks:
        task.cancel()
    return fleet.start_error_message or None


async def tell_when_ready(fleet: Fleet) -> None:
    """Tell the service manager once every model that is loaded at the start has been loaded, or can't be."""
    while waiting := [one.name for one in fleet.deployments if one.awaited]:
        notify(f"STATUS=loading {', '.join(waiting)}")
        await asyncio.sleep(LOOK_S)
    notify("READY=1\nSTATUS=serving")


def spare_the_collector() -> None:
    """Have the garbage collector look at what serving makes, and seldom.

    What is here by now stays. An open stream is some 160 objects that live as long as it does: the usual thresholds
    have all of them looked at again and again (2,000 streams: a tenth of the time, and pauses of 0.2 s).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


async def drain(fleet: Fleet, hurry: asyncio.Event, console: Console, most_s: float) -> None:
    """Let running requests finish, for `most_s` seconds at most; a second signal cuts that short."""
    queues = [deployment.queue for deployment in fleet.deployments]
    if any(queue.live for queue in queues):
        running = sum(queue.running for queue in queues)
        console.print(stopping_line(running, most_s), highlight=False, soft_wrap=True)
    tasks = [asyncio.ensure_future(fleet.drain()), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    fleet.abort()


def stopping_line(running: int, most_s: float) -> str:
    """The line for the terminal while running requests finish."""
    requests = "1 running request" if running == 1 else f"{running} running requests"
    return f"Stopping: {requests} may take up to {most_s:g} s to finish (--drain-timeout; Ctrl-C again: at once)."
