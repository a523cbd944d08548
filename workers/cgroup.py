"""The memory that a container may use, by Linux's control groups (versions 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 writes a huge number where nothing limits."""


@dataclass(frozen=True)
class Limit:
    """How much a group may use, and how much of it is in use and can't be given back at once, in bytes."""

    limit_bytes: int
    used_bytes: int


def memory_limit(root: Path = ROOT, process: Path = Path("/proc/self/cgroup")) -> Limit | None:
    """The tightest limit of the groups that this process is in; None where nothing limits it."""
    limits = [limit for folder in folders(root, text_of(process)) if (limit := limit_of(folder)) is not None]
    return min(limits, key=lambda limit: limit.limit_bytes - limit.used_bytes, default=None)


def folders(root: Path, process: str) -> list[Path]:
    """The folders of a process's memory groups, parents included; `process` is the text of its `cgroup` file.

    In a container the file may tell the host's path, of which only the root is there.
    """
    found = [root, root / "memory"]
    for line in process.splitlines():
        _, controllers, path = line.split(":", 2)
        base = root if not controllers else root / "memory" if "memory" in controllers.split(",") else None
        if base is not None:
            group = base / path.strip("/")
            found += [group, *(parent for parent in group.parents if parent.is_relative_to(base))]
    return list(dict.fromkeys(found))


def limit_of(folder: Path) -> Limit | None:
    """A folder's own limit; None if it sets none."""
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = (text_of(folder / name).strip() for name in (limit_name, used_name))
        if limit.isdigit() and used.isdigit() and int(limit) < UNLIMITED:
            return Limit(int(limit), max(0, int(used) - cached_bytes(text_of(folder / "memory.stat"))))
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
