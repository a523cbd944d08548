"""Each kind of process for what nobody vouches for has a limit of its memory, whatever else it gives up."""

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlx_server.workers.engine.sandbox.host import KillableProcess

ROOT = Path(__file__).parents[4]
MODULES = sorted(path.relative_to(ROOT) for top in ("app", "workers") for path in (ROOT / top).rglob("*_child.py"))
MEMORY_BYTES = 1 << 30

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent watches the memory"),
]


def greeting(name: str, tokenizer: Path) -> dict[str, Any]:
    """What a child is told before anything is asked."""
    if name == "grammar_child":
        return {"tokenizer": tokenizer.read_text(), "n_vocab": 49152, "eos": [0]}
    return {"most_pixels": 10_000, "low_detail_pixels": 100} if name == "picture_child" else {}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_process_has_a_limit_of_its_memory(module: Path, smollm2: Path) -> None:
    process = KillableProcess(
        ".".join(("mlx_server", *module.with_suffix("").parts)),
        limit_s=10.0,
        cpu_s=10,
        memory_bytes=MEMORY_BYTES,
        greeting=greeting(module.stem, smollm2 / "tokenizer.json"),
    )
    try:
        process.deadline()
        started = psutil.Process(process.pid)
        limit, used = started.rlimit(psutil.RLIMIT_AS)[0], started.memory_info().vms
    finally:
        process.close()
    assert used < limit <= used + MEMORY_BYTES + (1 << 20)
