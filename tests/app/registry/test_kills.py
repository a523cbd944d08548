"""Whatever was acknowledged is there after a kill at any moment."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mlx_server.app.registry.registry import Registry

WRITER = """
import asyncio, pathlib, sys
from datetime import UTC, datetime
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import ModelRow

async def write():
    registry = Registry.open(pathlib.Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), 1_000_000):
        name = f"m{number}"
        await registry.save(ModelRow(name=name, metadata={"number": number, "text": "x" * 3000}))
        await registry.record_uses({name: (number, datetime.now(UTC))})
        print(number, flush=True)

asyncio.run(write())
"""


def write_and_kill(path: Path, first: int, after: int) -> list[int]:
    """What a process says that it has kept, which is killed when it has said so much."""
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(after)]
        process.kill()
        said += process.stdout.readlines()
    assert process.returncode == -9
    return [int(line) for line in said if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(3))
def test_killed_server_loses_nothing_that_it_had_kept(tmp_path: Path, seed: int) -> None:
    path, moments = tmp_path / "registry.sqlite3", random.Random(seed)
    kept: list[int] = []
    for _ in range(2):
        kept += write_and_kill(path, (kept[-1] + 2) if kept else 1, moments.randint(1, 60))
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        registry = Registry.open(path)
        rows = {row.name: row for row in asyncio.run(registry.models())}
        registry.close()
        assert all(rows[f"m{number}"].metadata["number"] == number for number in kept)
        assert all(rows[f"m{number}"].use_count == number for number in kept)
