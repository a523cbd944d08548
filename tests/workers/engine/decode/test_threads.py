"""Why one thread owns MLX."""

from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import pytest


def test_an_array_made_lazily_in_one_thread_cannot_be_evaluated_in_another() -> None:
    with ThreadPoolExecutor(1) as maker, ThreadPoolExecutor(1) as other:
        lazy = maker.submit(lambda: mx.arange(4) * 2 + 1).result(60)
        with pytest.raises(RuntimeError, match="There is no Stream"):
            other.submit(mx.eval, lazy).result(60)
        maker.submit(mx.eval, lazy).result(60)
        assert other.submit(lazy.tolist).result(60) == [1, 3, 5, 7]
