"""What is computed before the first request."""

from typing import Any

import pytest

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.decode.warm_up import batch_sizes, warm_up
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore

pytestmark = pytest.mark.model


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_batch_sizes(rows: int, sizes: list[int]) -> None:
    assert list(batch_sizes(rows)) == sizes


def test_every_kind_of_batch_has_been_stepped_and_nothing_is_kept(llama: Any) -> None:
    seen: set[int] = set()

    class Watched(DecodeBatch):
        def step(self) -> list[Drawn]:
            seen.add(len(self.keys))
            return super().step()

    store = PrefixStore(1 << 20)
    engine = BatchEngine(
        llama, set(), rows=6, joint_prefill=True, prefill_step_size=40, prefixes=store, make_rows=Watched
    )
    assert warm_up(engine, 6, 40) == ""
    assert seen >= {1, 2, 4, 6}
    assert not engine.busy
    assert store.nbytes == 0


def test_a_model_that_fails_is_told_of(llama: Any) -> None:
    class Failing(DecodeBatch):
        def step(self) -> list[Drawn]:
            raise RuntimeError("no such kernel")

    engine = BatchEngine(llama, set(), rows=2, joint_prefill=True, prefill_step_size=8, make_rows=Failing)
    assert "no such kernel" in warm_up(engine, 2, 8)
