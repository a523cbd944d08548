"""Listeners who can't follow, too many of them, and none: in this process, with polls that are not made."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import psutil
import pytest

from mlx_server.app.http.keys import KeyRing
from mlx_server.app.live.listeners import FEW_WAITING, MAX_WAITING
from mlx_server.app.live.station import INTERVAL_S, MAX_SESSIONS, Station
from mlx_server.app.machine.meter import Meter
from mlx_server.app.views.inference import InferenceMeter
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.schemas.impetus.hardware import HardwareMetrics
from mlx_server.schemas.impetus.live import InferenceStats, LiveEvent, ModelStatus
from mlx_server.schemas.impetus.models import DownloadState

URL = "http://127.0.0.1/socket.io/?EIO=4&transport=polling"


def status(name: str) -> ModelStatus:
    return ModelStatus(name, "loaded", "2026-01-01T00:00:00+00:00")


def progress(percent: float) -> DownloadState:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return DownloadState("1", "m", "m", "downloading", percent, 0, 0, None, None, None, False, at, at)


class Source:
    """Something that tells whoever watches it."""

    def __init__(self) -> None:
        self.watchers: list[Callable[[LiveEvent], None]] = []

    def watch(self, callback: Callable[[LiveEvent], None]) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback)

    def tell(self, event: LiveEvent) -> None:
        for watcher in self.watchers:
            watcher(event)


class Poller:
    """A client that polls when it is told to."""

    def __init__(self, station: Station) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(station))
        self.url = ""

    async def connect(self) -> None:
        opened = await self.http.get(URL)
        assert opened.status_code == 200, opened.text
        sid = opened.text.split('"sid":"')[1].split('"')[0]
        self.url = f"{URL}&sid={sid}"
        assert (await self.http.post(self.url, content="40")).text == "OK"

    async def poll(self) -> list[str]:
        return (await self.http.get(self.url)).text.split("\x1e")


class BlindMeter(Meter):
    """May not see anything at first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def metrics(self) -> HardwareMetrics:
        self.asked += 1
        if self.asked == 1:
            raise psutil.AccessDenied(1)
        return await super().metrics()


def make(source: Source, meter: Meter | None = None, interval_s: float = INTERVAL_S) -> Station:
    return Station(
        KeyRing(()),
        meter or Meter(),
        snapshot=lambda: [status("first")],
        queues=dict[str, Dispatcher],
        watches=[source.watch],
        interval_s=interval_s,
    )


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(200):
        await asyncio.sleep(0)


def test_listener_is_told_in_order_and_no_more_after_the_end() -> None:
    async def run() -> None:
        source = Source()
        station = make(source)
        source.tell(status("nobody listens yet"))
        client = Poller(station)
        await client.connect()
        await settle()
        for name in ("a", "b"):
            source.tell(status(name))
        await settle()
        told = await client.poll()
        assert told[0].startswith("40")
        assert [name for name in ("first", "a", "b") if name in "".join(told)] == ["first", "a", "b"]
        assert ["first" in told[1], '"a"' in told[2], '"b"' in told[3]] == [True] * 3
        await station.close()
        assert source.watchers == []
        assert (await client.http.get(URL)).status_code == 503

    asyncio.run(run())


def test_round_that_fails_is_told_in_the_log_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        station = make(Source(), BlindMeter(), interval_s=0.01)
        client = Poller(station)
        await client.connect()
        told = ""
        async with asyncio.timeout(10):
            while "hardware_metrics" not in told:
                told += "".join(await client.poll())
        await station.close()

    asyncio.run(run())
    assert [record.name for record in caplog.records if record.exc_info] == ["mlx_server.app.live.station"]


def test_listener_that_does_not_follow_costs_a_bounded_number_of_events() -> None:
    async def run() -> None:
        source = Source()
        station = make(source)
        client = Poller(station)
        await client.connect()
        await settle()
        for percent in range(100):
            source.tell(progress(percent))
            await settle()
        for number in range(1000):
            source.tell(status(f"m{number}"))
            await settle()
        told = await client.poll()
        assert len(told) <= MAX_WAITING + 1
        assert sum("download_progress" in event for event in told) <= FEW_WAITING + 1
        # It has lost some, so it is told what there is.
        source.tell(progress(100))
        await settle()
        assert '"first"' in (await client.poll())[0]
        await station.close()

    asyncio.run(run())


def test_too_many_listeners_are_refused() -> None:
    async def run() -> None:
        station = make(Source())
        clients = [Poller(station) for _ in range(MAX_SESSIONS)]
        for client in clients:
            await client.connect()
        refused = await clients[0].http.get(URL)
        assert refused.status_code == 503
        assert str(MAX_SESSIONS) in refused.json()["detail"]
        await station.close()

    asyncio.run(run())


@pytest.mark.parametrize("length", [None, "x", "99999"])
def test_body_that_is_not_measured_is_refused(length: str | None) -> None:
    async def run() -> None:
        station = make(Source())
        headers = {"content-length": length} if length else {"transfer-encoding": "chunked"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(station)) as http:
            assert (await http.post(URL, content=b"40", headers=headers)).status_code == 413
        await station.close()

    asyncio.run(run())


def test_inference_without_models_is_all_zeros() -> None:
    stats: InferenceStats = InferenceMeter().read({})
    assert (stats.active_requests, stats.tokens_per_second, stats.models) == (0, 0, {})
