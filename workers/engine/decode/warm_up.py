"""Steps that have a GPU's kernels compiled before the first request comes."""

from __future__ import annotations

from collections.abc import Iterator

from mlx_server.schemas.internal.generation import Limits, Sampling
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.sequence import Broken, Sequence

STEPS = 2


def batch_sizes(rows: int) -> Iterator[int]:
    """Batch sizes that select different kernels: the powers of two below `rows`, and `rows`."""
    size = 1
    while size < rows:
        yield size
        size *= 2
    yield rows


def warm_up(engine: Engine, rows: int, chunk: int) -> str:
    """Decode with each batch size, and read a prompt of one `chunk`; what went wrong, empty if nothing did.

    Nothing is cached. Engine thread only.
    """
    prompts = [[[0, 1]] * size for size in batch_sizes(rows)] + [[[1] * (chunk + 1)]]
    for prompt_batch in prompts:
        for number, prompt in enumerate(prompt_batch):
            one = Sequence((-1, number), list(prompt), STEPS, Sampling(temperature=0.0), Limits(ignore_eos=True))
            one.use_cache = False
            engine.add(one)
        while engine.busy:
            for item in engine.step():
                if isinstance(item, Broken):
                    return f"warming up failed: {item.message}"
    return ""
