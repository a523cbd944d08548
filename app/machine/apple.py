"""What macOS tells without a password: sysctl, ioreg and the notification centre."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_server.app.machine.commands import output_of

SYSCTLS = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.physicalcpu",
    "hw.nperflevels",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "iogpu.wired_limit_mb",
)
THERMAL_LEVELS = ("nominal", "moderate", "heavy", "trapping", "sleeping")
"""By number, as <libkern/OSThermalNotification.h> names them."""


@dataclass(frozen=True)
class Chip:
    """Apple's name of a chip, `M3 Pro`, and its variant, `Pro`, which plain ones don't have."""

    type: str
    variant: str | None


@dataclass(frozen=True)
class Accelerator:
    """A graphics processor as ioreg knows it; `used_bytes` is what all processes use of the memory it shares."""

    name: str | None
    cores: int | None
    utilization_percent: float | None
    used_bytes: int | None


def sysctls() -> dict[str, str]:
    """The settings of `SYSCTLS` that this system has. Blocks."""
    return parse_sysctls(output_of("/usr/sbin/sysctl", "-i", *SYSCTLS) or "")


def parse_sysctls(text: str) -> dict[str, str]:
    """`name: value` on each line; other lines are complaints."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs if name in SYSCTLS}


def number(values: Mapping[str, str], name: str) -> int | None:
    """A setting that is a number."""
    value = values.get(name, "")
    return int(value) if value.isdigit() else None


def chip_of(brand: str) -> Chip | None:
    """`Apple M3 Pro` is an M3 Pro; None for what is no chip of Apple's."""
    found = re.fullmatch(r"Apple (\w+)(?: (\w+))?", brand)
    if found is None:
        return None
    return Chip(" ".join(filter(None, found.groups())), found[2])


def wired_limit_bytes(values: Mapping[str, str]) -> int | None:
    """How much memory the graphics processor may hold, where somebody has set that; 0 is the system's own choice."""
    limit = number(values, "iogpu.wired_limit_mb")
    return limit << 20 if limit else None


def accelerator() -> Accelerator | None:
    """The graphics processor. Blocks."""
    return parse_accelerator(output_of("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator") or "")


def parse_accelerator(text: str) -> Accelerator | None:
    """The first accelerator of ioreg's listing; None if it has none."""
    if "+-o " not in text:
        return None
    used = _property(text, "In use system memory")
    cores = _property(text, "gpu-core-count")
    utilization = _property(text, "Device Utilization %")
    model = re.search(r'"model" = "([^"]+)"', text)
    return Accelerator(
        name=model[1] if model else None,
        cores=cores,
        utilization_percent=None if utilization is None else float(utilization),
        used_bytes=used,
    )


def _property(text: str, name: str) -> int | None:
    found = re.search(rf'"{re.escape(name)}"\s*=\s*(\d+)', text)
    return int(found[1]) if found else None


def core_kinds() -> tuple[list[int], list[int]] | None:
    """Which logical cores are performance cores, and which efficiency cores. Blocks."""
    return parse_core_kinds(output_of("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-k", "cluster-type") or "")


def parse_core_kinds(text: str) -> tuple[list[int], list[int]] | None:
    """Cores by the clusters that ioreg's device tree has them in; None unless it tells all of them, once."""
    kinds: dict[str, list[int]] = {"P": [], "E": []}
    for node in text.split("+-o ")[1:]:
        number = re.search(r'"cpu-id" = <([0-9a-f]+)>', node)
        kind = re.search(r'"cluster-type" = <"([PE])">', node)
        if number and kind and '"device_type" = <"cpu">' in node:
            kinds[kind[1]].append(int.from_bytes(bytes.fromhex(number[1]), "little"))
    found = sorted(kinds["P"] + kinds["E"])
    return (
        (sorted(kinds["P"]), sorted(kinds["E"])) if all(kinds.values()) and found == list(range(len(found))) else None
    )


def thermal_state() -> str | None:
    """How the system rates the machine's heat. Blocks."""
    return parse_thermal_level(output_of("/usr/bin/notifyutil", "-g", "com.apple.system.thermalpressurelevel") or "")


def parse_thermal_level(text: str) -> str | None:
    """`com.apple.system.thermalpressurelevel 0` is nominal; None for what is no level."""
    found = re.search(r"thermalpressurelevel (\d+)", text)
    return THERMAL_LEVELS[int(found[1])] if found and int(found[1]) < len(THERMAL_LEVELS) else None
