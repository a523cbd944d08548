"""The memory and processor time that a container may use, by Linux's control groups (versions 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""Version 1 writes a huge number where nothing limits."""


@dataclass(frozen=True)
class Limit:
    """How much a group may use, and how much of it is in use and can't be given back at once, in bytes."""

    limit_bytes: int
    used_bytes: int


def memory_limit(root: Path = ROOT, process: Path = OWN) -> Limit | None:
    """The tightest limit of the groups that this process is in; None where nothing limits it."""
    limits = [limit for folder in folders(root, text_of(process), "memory") if (limit := limit_of(folder)) is not None]
    return min(limits, key=lambda limit: limit.limit_bytes - limit.used_bytes, default=None)


def cpu_quota(root: Path = ROOT, process: Path = OWN) -> float | None:
    """Cores' worth of time that the tightest of these groups grants; None where nothing limits it."""
    quotas = [quota for folder in folders(root, text_of(process), "cpu") if (quota := quota_of(folder)) is not None]
    return min(quotas, default=None)


def folders(root: Path, process: str, controller: str) -> list[Path]:
    """The folders of a process's groups of a controller, parents included; `process` is the text of its `cgroup` file.

    In a container the file may tell the host's path, of which only the root is there.
    """
    found = [root, root / controller]
    for line in process.splitlines():
        _, controllers, path = line.split(":", 2)
        base = root if not controllers else root / controller if controller in controllers.split(",") else None
        if base is not None:
            group = base / path.strip("/")
            found += [group, *(parent for parent in group.parents if parent.is_relative_to(base))]
    return list(dict.fromkeys(found))


def limit_of(folder: Path) -> Limit | None:
    """A folder's own limit; None if it sets none. Version 2 has one from which on it is throttled (`memory.high`)."""
    limits = []
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.high", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = (text_of(folder / name).strip() for name in (limit_name, used_name))
        if limit.isdigit() and used.isdigit() and int(limit) < UNLIMITED:
            unused = cached_bytes(text_of(folder / "memory.stat"))
            limits.append(Limit(int(limit), max(0, int(used) - unused)))
    return min(limits, key=lambda limit: limit.limit_bytes, default=None)


def quota_of(folder: Path) -> float | None:
    """A folder's own quota in cores; None if it sets none."""
    second = text_of(folder / "cpu.max").split()
    first = [text_of(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    for numbers in (second, first):
        if len(numbers) == 2 and all(map(str.isdigit, numbers)) and int(numbers[1]):
            return int(numbers[0]) / int(numbers[1])
    return None


def text_of(path: Path) -> str:
    """A small file's text; empty if it isn't there or may not be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def cached_bytes(stat: str) -> int:
    """Files that are kept in memory only as long as nobody needs it, by a group's statistics."""
    numbers = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", "0")))
