"""How long 10,000 models of the registry take to list: `python bench/registry.py [--models 10000] [--repeat 30]`.

As a caller on the event loop waits for it: the query on the registry's thread, and a row for each model. Beside it the
CPU time, which others' work on the machine changes less. Raw rows go to bench/results/registry.json. Exit code 0 when
the target was met, else 2.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from lib.hardware import this_machine
from lib.processes import BENCH

from mlx_server.app.registry.registry import FILE, Registry
from mlx_server.app.registry.rows import ModelRow

RESULTS = BENCH / "results" / "registry.json"
TARGET_MS = 50.0


def model(number: int) -> ModelRow:
    name = f"owner-{number % 97}/model-{number:05}"
    return ModelRow(
        name=name,
        path=f"/models/{name}",
        hub_id=name,
        version="main",
        quantisation="4-bit",
        weight_bytes=number << 20,
        memory_bytes=number << 21,
        parameters=number << 22,
        context_length=32768,
        architecture="llama",
        metadata={"kv_bytes_per_token": 131072, "tags": ["chat", "small"]},
    )


async def measure(path: Path, models: int, repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each try."""
    registry = Registry.open(path)
    try:
        await registry.save_all([model(number) for number in range(models)])
        await registry.record_uses({row.name: (3, datetime.now(UTC)) for row in await registry.models()})
        rows: dict[str, list[float]] = {name: [] for name in ("all", "all, CPU", "page of 100", "page of 100, CPU")}
        for _ in range(repeat):
            for name, limit in (("all", -1), ("page of 100", 100)):
                began, cpu = perf_counter(), process_time()
                found = await registry.models(limit, 0)
                rows[name].append((perf_counter() - began) * 1000)
                rows[f"{name}, CPU"].append((process_time() - cpu) * 1000)
                assert len(found) == (models if limit < 0 else min(limit, models))
        return rows
    finally:
        registry.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    machine = this_machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder) / FILE, options.models, options.repeat))
    for name, each in rows.items():
        print(f"{options.models} models, {name}: {median(each):.1f} ms ({min(each):.1f} to {max(each):.1f})")
    print(machine.line())
    kept = {"machine": machine.line(), "models": options.models, "target_ms": TARGET_MS, "ms": rows}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if median(rows["all"]) < TARGET_MS else 2


if __name__ == "__main__":
    sys.exit(main())
