"""What Linux tells of a processor in /proc and /sys."""

from __future__ import annotations

import re
from pathlib import Path

from mlx_server.workers.cgroup import text_of

CPUS = Path("/sys/devices/system/cpu")


def parse_brand(cpuinfo: str) -> str | None:
    """The processor's name in /proc/cpuinfo; ARM's processors mostly have none there."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else None


def parse_cpu_list(text: str) -> list[int]:
    """`0-3,8` names the cores 0, 1, 2, 3 and 8."""
    cores: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def brand() -> str | None:
    """The processor's name."""
    return parse_brand(text_of(Path("/proc/cpuinfo")))


def base_frequency_ghz() -> float | None:
    """The frequency that the processor keeps up under any load."""
    kilohertz = text_of(CPUS / "cpu0" / "cpufreq" / "base_frequency").strip()
    return round(int(kilohertz) / 1e6, 2) if kilohertz.isdigit() else None


def core_kinds() -> tuple[list[int], list[int]] | None:
    """Logical cores of a hybrid processor: performance cores and efficiency cores; None for one with equal cores."""
    kinds = [parse_cpu_list(text_of(Path(f"/sys/devices/cpu_{kind}/cpus"))) for kind in ("core", "atom")]
    return (kinds[0], kinds[1]) if all(kinds) else None


def physical_cores(logical: list[int]) -> int | None:
    """How many physical cores these are; None if the system does not tell."""
    places = {text_of(CPUS / f"cpu{core}" / "topology" / "thread_siblings_list").strip() for core in logical}
    return len(places) if places and "" not in places else None
