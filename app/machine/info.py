"""What this machine is."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from mlx_server.app.machine import apple, linux, nvidia
from mlx_server.app.machine.memory import memory
from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.schemas.impetus.hardware import CpuInfo, GpuInfo, HardwareInfo, Thermal

SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
"""Names that Linux's drivers give the sensors of processors."""


@dataclass(frozen=True)
class CoreKinds:
    """Logical cores by kind, of a processor whose cores are not alike."""

    performance: Sequence[int]
    efficiency: Sequence[int]


def core_kinds() -> CoreKinds | None:
    """The kinds of cores; None where they are alike, or nobody tells. Blocks."""
    kinds = apple.core_kinds() if sys.platform == "darwin" else linux.core_kinds()
    return CoreKinds(*kinds) if kinds else None


def hardware_info(devices: Sequence[str] = ()) -> HardwareInfo:
    """All of it; `devices` are what the loaded models say that they compute on. Blocks."""
    values = apple.sysctls() if sys.platform == "darwin" else {}
    brand = values.get("machdep.cpu.brand_string") or (linux.brand() if sys.platform == "linux" else None)
    chip = apple.chip_of(brand or "")
    return HardwareInfo(
        chip_type=chip.type if chip else brand,
        chip_variant=chip.variant if chip else None,
        cpu=_cpu(brand, values),
        memory=memory().info(),
        gpu=apple_gpu(brand, values, apple.accelerator()) if sys.platform == "darwin" else nvidia_gpu(nvidia.cards()),
        thermal=thermal(),
        os_version=os_version(),
        mlx_version=installed("mlx"),
        python_version=platform.python_version(),
        devices=list(dict.fromkeys(devices)),
    )


def _cpu(brand: str | None, values: Mapping[str, str]) -> CpuInfo:
    performance, efficiency = (apple.number(values, f"hw.perflevel{level}.physicalcpu") for level in (0, 1))
    if efficiency is None:
        performance = None
    if sys.platform == "linux" and (kinds := linux.core_kinds()) is not None:
        performance, efficiency = (linux.physical_cores(cores) for cores in kinds)
    return CpuInfo(
        brand=brand,
        architecture=platform.machine(),
        performance_cores=performance,
        efficiency_cores=efficiency,
        total_cores=psutil.cpu_count(logical=False),
        base_frequency_ghz=linux.base_frequency_ghz() if sys.platform == "linux" else None,
        max_frequency_ghz=max_frequency_ghz(),
    )


def max_frequency_ghz() -> float | None:
    """The highest frequency that the processor reaches. psutil has 0 for unknown, and fails on some machines."""
    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError):
        return None
    return round(frequency.max / 1000, 2) if frequency is not None and frequency.max else None


def apple_gpu(brand: str | None, values: Mapping[str, str], found: apple.Accelerator | None) -> GpuInfo:
    """The graphics processor of a Mac, which shares the machine's memory where Apple made the whole chip."""
    ours = apple.chip_of(brand or "") is not None
    total = apple.number(values, "hw.memsize")
    held = apple.wired_limit_bytes(values) or total
    return GpuInfo(
        name=(found.name if found else None) or (brand if ours else None),
        vendor="Apple" if ours else None,
        memory_gb=round(held / GIBIBYTE, 2) if ours and held else None,
        compute_units=found.cores if found else None,
        metal_support=ours,
        unified_memory=True if ours else None,
    )


def nvidia_gpu(cards: Sequence[nvidia.Card]) -> GpuInfo:
    """The first card, if there is one."""
    if not cards:
        return GpuInfo(None, None, None, None, metal_support=False, unified_memory=None)
    total = cards[0].memory_total_mb
    memory_gb = None if total is None else round(total / 1024, 2)
    return GpuInfo(cards[0].name, "NVIDIA", memory_gb, None, metal_support=False, unified_memory=False)


def thermal() -> Thermal:
    """Heat, as far as the system tells without a password. Blocks."""
    if sys.platform == "darwin":
        state = apple.thermal_state()
        return Thermal(None, state, None if state is None else state != "nominal")
    temperatures: dict[str, list[object]] = getattr(psutil, "sensors_temperatures", dict)()
    return Thermal(hottest(temperatures), None, None)


def hottest(temperatures: Mapping[str, Sequence[object]]) -> float | None:
    """The hottest of the processor's sensors, in degrees Celsius; `temperatures` are psutil's."""
    readings = [getattr(entry, "current", None) for name in SENSORS for entry in temperatures.get(name, ())]
    return max((float(reading) for reading in readings if reading), default=None)


def os_version() -> str:
    """The operating system's name and version, for people."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {os.uname().release}"


def installed(package: str) -> str | None:
    """A package's version, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
