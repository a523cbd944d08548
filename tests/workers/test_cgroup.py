"""Limits of control groups, from folders that hold what Linux writes into its own."""

from pathlib import Path

import pytest

from mlx_server.workers.cgroup import Limit, cpu_quota, memory_limit

SECOND = {"memory.current": "1073741824", "memory.stat": "anon 5\nfile 80000000\ninactive_file 73741824"}
"""A group of version 2 in use, without limits."""

FIRST = {
    "memory.limit_in_bytes": "9223372036854771712",
    "memory.usage_in_bytes": "1073741824",
    "memory.stat": "inactive_file 1\nhierarchical_memory_limit 9223372036854771712\ntotal_inactive_file 73741824",
}
"""The same of version 1."""

USED = 1_000_000_000
GIB = 1 << 30

HYBRID = """\
5:cpu,cpuacct:/system.slice/one.service
4:memory:/system.slice/one.service
1:name=systemd:/system.slice/one.service
0::/system.slice/one.service
"""


def written(root: Path, groups: dict[str, dict[str, str]], process: str) -> tuple[Path, Path]:
    """A tree of groups, and a process's `cgroup` file beside it."""
    for folder, files in groups.items():
        (root / "fs" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / "fs" / folder / name).write_text(text + "\n")
    (root / "own").write_text(process)
    return root / "fs", root / "own"


@pytest.mark.parametrize(
    ("groups", "process", "limit"),
    [
        ({"a.slice": SECOND | {"memory.max": "max", "memory.high": "max"}}, "0::/a.slice\n", None),
        ({"a.slice": SECOND | {"memory.max": str(4 * GIB), "memory.high": "max"}}, "0::/a.slice\n", 4 * GIB),
        ({"a.slice": SECOND | {"memory.max": str(4 * GIB), "memory.high": str(3 * GIB)}}, "0::/a.slice\n", 3 * GIB),
        ({"a.slice": SECOND | {"memory.max": str(4 * GIB), "memory.high": str(5 * GIB)}}, "0::/a.slice\n", 4 * GIB),
        ({"": SECOND | {"memory.max": str(4 * GIB)}}, "0::/path/of/the/host\n", 4 * GIB),
        ({"": SECOND | {"memory.max": str(4 * GIB)}}, "0::/../sibling\n", 4 * GIB),
        (
            {"a": SECOND | {"memory.max": str(2 * GIB)}, "a/b": SECOND | {"memory.max": str(3 * GIB)}},
            "0::/a/b\n",
            2 * GIB,
        ),
        ({"memory/outer/inner": FIRST}, "4:memory:/outer/inner\n1:cpu:/\n", None),
        (
            {"memory/outer": FIRST | {"memory.limit_in_bytes": str(2 * GIB)}, "memory/outer/inner": FIRST},
            "4:memory:/outer/inner\n1:cpu:/\n",
            2 * GIB,
        ),
        ({"memory": FIRST | {"memory.limit_in_bytes": str(GIB)}}, "4:memory:/docker/0123\n", GIB),
        ({"memory/system.slice/one.service": FIRST | {"memory.limit_in_bytes": str(GIB)}}, HYBRID, GIB),
        ({"": SECOND | {"memory.max": "nonsense"}}, "0::/\n", None),
    ],
    ids=[
        "without a limit", "its own", "throttled before", "throttled never", "container with the host's path",
        "outside its namespace", "its parent's is tighter", "first version without one", "first version, its parent's",
        "first version in a container", "both versions", "nonsense",
    ],
)  # fmt: skip
def test_tightest_limit_of_memory_counts(
    tmp_path: Path, groups: dict[str, dict[str, str]], process: str, limit: int | None
) -> None:
    found = memory_limit(*written(tmp_path, groups, process))
    assert found == (None if limit is None else Limit(limit, USED))


def test_without_control_groups_nothing_limits(tmp_path: Path) -> None:
    assert memory_limit(tmp_path, tmp_path / "missing") is None
    assert cpu_quota(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("groups", "process", "cores"),
    [
        ({"a/b": {"cpu.max": "150000 100000"}}, "0::/a/b\n", 1.5),
        ({"a/b": {"cpu.max": "max 100000"}, "a": {"cpu.max": "50000 100000"}}, "0::/a/b\n", 0.5),
        ({"": {"cpu.max": "50000 100000"}}, "0::/path/of/the/host\n", 0.5),
        ({"a/b": {"cpu.max": "nonsense"}, "": {"cpu.max": "200000 100000"}}, "0::/a/b\n", 2.0),
        ({"cpu/a": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}}, "2:cpu,cpuacct:/a\n", None),
        ({"cpu/a": {"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}}, "2:cpu,cpuacct:/a\n", 2.5),
    ],
    ids=["its own", "its parent's", "container", "nonsense", "first version without one", "first version"],
)
def test_tightest_quota_of_processors_counts(
    tmp_path: Path, groups: dict[str, dict[str, str]], process: str, cores: float | None
) -> None:
    assert cpu_quota(*written(tmp_path, groups, process)) == cores
