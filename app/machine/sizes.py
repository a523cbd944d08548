"""Numbers of bytes and of parameters, as people say them: files in GB, as hubs and disks have them, memory in GiB."""

from __future__ import annotations

GIBIBYTE = 1 << 30


def size(count: float) -> str:
    """Bytes of a file, rounded."""
    return in_units(count, 1000, ("B", "kB", "MB", "GB"))


def memory_size(count: float) -> str:
    """Bytes of memory, rounded."""
    return in_units(count, 1024, ("B", "KiB", "MiB", "GiB"))


def in_units(count: float, step: int, units: tuple[str, str, str, str]) -> str:
    """A number in the largest unit that it reaches; only the last one has a digit behind the point."""
    for unit in units[:-1]:
        if round(count) < step:
            return f"{count:.0f} {unit}"
        count /= step
    return f"{count:.1f} {units[-1]}"


def people_count(parameters: int) -> str:
    """A number of parameters as people say it: 135M, 7.2B, 70B."""
    millions = parameters / 1e6
    if millions >= 1000:
        return f"{millions / 1000:.1f}".removesuffix(".0") + "B"
    return f"{millions:.3g}M"
