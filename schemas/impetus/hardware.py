"""What the machine reports of itself. Sizes named `_gb` and `_mb` are 2**30 and 2**20 bytes; null means unknown."""

from __future__ import annotations

import msgspec


class CpuInfo(msgspec.Struct, frozen=True):
    """The processor. Cores are physical ones; the two kinds are counted only where the machine tells them apart."""

    brand: str | None
    architecture: str
    performance_cores: int | None
    efficiency_cores: int | None
    total_cores: int | None
    base_frequency_ghz: float | None
    max_frequency_ghz: float | None


class MemoryInfo(msgspec.Struct, frozen=True):
    """Memory that this server may use: the machine's, or its container's where that is less."""

    total_gb: float
    available_gb: float
    used_gb: float
    usage_percent: float


class GpuInfo(msgspec.Struct, frozen=True):
    """The graphics processor; all null where there is none, or none that tells of itself."""

    name: str | None
    vendor: str | None
    memory_gb: float | None
    compute_units: int | None
    metal_support: bool
    unified_memory: bool | None


class Thermal(msgspec.Struct, frozen=True):
    """Heat. `thermal_state` is the operating system's word for it: nominal, moderate, heavy, trapping or sleeping."""

    cpu_temperature_c: float | None
    thermal_state: str | None
    throttling: bool | None


class HardwareInfo(msgspec.Struct, frozen=True):
    """The machine, the software that matters here, and the devices that loaded models compute on."""

    chip_type: str | None
    chip_variant: str | None
    cpu: CpuInfo
    memory: MemoryInfo
    gpu: GpuInfo
    thermal: Thermal
    os_version: str
    mlx_version: str | None
    python_version: str
    devices: list[str]


class CpuMetrics(msgspec.Struct, frozen=True):
    """Load since the last reading, in percent of a core's time; `core_usage` has all cores, in the machine's order."""

    usage_percent: float
    core_usage: list[float]
    performance_core_usage: list[float] | None
    efficiency_core_usage: list[float] | None
    frequency_ghz: list[float] | None
    load_average: list[float]


class GpuMetrics(msgspec.Struct, frozen=True):
    """The graphics processor's load, whoever causes it."""

    gpu_utilization_percent: float | None
    memory_used_mb: float | None
    memory_total_mb: float | None
    memory_usage_percent: float | None
    compute_units_active: int | None


class ProcessMetrics(msgspec.Struct, frozen=True):
    """The server: `pid` is its front end, the figures are sums over that and its workers."""

    pid: int
    cpu_percent: float
    memory_mb: float
    memory_percent: float
    threads: int
    file_descriptors: int
    uptime_seconds: float


class HardwareMetrics(msgspec.Struct, frozen=True):
    """The machine now. `timestamp` is ISO 8601, in UTC."""

    timestamp: str
    cpu: CpuMetrics
    memory: MemoryInfo
    thermal: Thermal
    metal: GpuMetrics
    process: ProcessMetrics
