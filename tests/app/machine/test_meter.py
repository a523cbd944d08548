"""Load of the machine and of the server: by figures that were made up, and on this machine."""

import asyncio
import os
from types import SimpleNamespace

import psutil
import pytest

from mlx_server.app.machine.commands import output_of
from mlx_server.app.machine.info import hardware_info, hottest
from mlx_server.app.machine.memory import memory
from mlx_server.app.machine.meter import Meter, Reading, core_percents, of_cores, process_percent, take_reading

BEFORE = Reading(10.0, [(5.0, 10.0), (0.0, 10.0), (1.0, 10.0)], {1: 3.0, 2: 1.0})


def test_load_is_what_happened_between_two_readings() -> None:
    after = Reading(12.0, [(6.0, 12.0), (2.0, 12.0), (1.0, 12.0)], {1: 4.0, 3: 9.0})
    assert core_percents(BEFORE, after) == [50.0, 100.0, 0.0]
    assert process_percent(BEFORE, after) == 50.0, "processes that started or ended in between don't count"


def test_load_over_no_time_is_none() -> None:
    assert core_percents(BEFORE, BEFORE) == [0.0, 0.0, 0.0]
    assert process_percent(BEFORE, BEFORE) == 0.0


def test_load_of_some_cores_is_in_their_order() -> None:
    assert of_cores([1.0, 2.0, 3.0], [2, 0, 7]) == [3.0, 1.0]


def test_temperature_is_that_of_the_processors_hottest_sensor() -> None:
    sensors = {
        "nvme": [SimpleNamespace(current=90.0)],
        "coretemp": [SimpleNamespace(current=45.0), SimpleNamespace(current=51.5), SimpleNamespace(current=0.0)],
    }
    assert hottest(sensors) == 51.5
    assert hottest({"nvme": sensors["nvme"]}) is None


def test_program_that_is_missing_or_fails_says_nothing() -> None:
    assert output_of("/no/such/program") is None
    assert output_of("/bin/sh", "-c", "exit 3") is None
    assert output_of("/bin/sh", "-c", "echo said") == "said\n"


def test_this_machine_is_described_as_psutil_knows_it() -> None:
    info = hardware_info(["cpu (x)", "cpu (x)"])
    assert info.devices == ["cpu (x)"]
    assert info.cpu.architecture == os.uname().machine
    assert info.cpu.total_cores == psutil.cpu_count(logical=False)
    assert info.memory.total_gb == round(memory().total_bytes / (1 << 30), 2)
    assert memory().total_bytes <= psutil.virtual_memory().total
    assert info.os_version
    assert info.mlx_version


def test_own_process_counts_where_those_that_it_started_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: psutil.Process, *, recursive: bool) -> list[psutil.Process]:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, "children", hidden)  # as where /proc is mounted with `hidepid`
    assert take_reading().processes.keys() == {os.getpid()}


def test_metrics_are_of_this_process() -> None:
    async def read() -> None:
        meter = Meter()
        first, second = await meter.metrics(), await meter.metrics()
        assert first.timestamp < second.timestamp
        assert len(second.cpu.core_usage) == psutil.cpu_count()
        assert all(0 <= percent <= 100 for percent in second.cpu.core_usage)
        assert second.process.pid == os.getpid()
        assert second.process.memory_mb > 1
        assert second.process.threads >= 1
        assert second.process.file_descriptors >= 3
        assert second.process.uptime_seconds > 0

    asyncio.run(read())
