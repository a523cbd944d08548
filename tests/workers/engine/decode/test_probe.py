from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_server.workers.engine.decode.probe import Batching, NoNumbersError, probe
from mlx_server.workers.engine.loading.loading import read_model

pytestmark = pytest.mark.model


def _probe(model: Any, rows: int) -> tuple[Batching, str]:
    return probe(model, rows, model.args.vocab_size)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 32])
def test_probe_lets_llama_be_batched_and_prefilled_jointly(load_tiny: Callable[[str], Any], rows: int) -> None:
    assert _probe(load_tiny("llama"), rows) == (Batching.JOINT, "")


@pytest.mark.parametrize("rows", [2, 8])
def test_probe_prefills_mamba_one_at_a_time(load_tiny: Callable[[str], Any], rows: int) -> None:
    batching, reason = _probe(load_tiny("mamba"), rows)
    assert batching is Batching.SINGLE_PREFILL
    assert "log-probabilities differ" in reason


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_probe_serves_gemma2_one_at_a_time(load_tiny: Callable[[str], Any], rows: int) -> None:
    batching, reason = _probe(load_tiny("gemma2"), rows)
    assert batching is Batching.NONE
    assert "in a batch" in reason


def test_probe_notices_a_cache_that_cannot_be_merged(load_tiny: Callable[[str], Any]) -> None:
    class Unmergeable:
        """A llama whose cache lacks what a batch needs."""

        def __init__(self, model: Any) -> None:
            self.model = model

        def __call__(self, *args: Any, **more: Any) -> Any:
            return self.model(*args, **more)

        @property
        def layers(self) -> Any:
            return self.model.layers

        def make_cache(self) -> list[Any]:
            from mlx_lm.models.cache import ChunkedKVCache

            return [ChunkedKVCache(64) for _ in self.model.layers]

    assert probe(Unmergeable(load_tiny("llama")), 8, 50) == (Batching.NONE, "its cache can't be merged into a batch's")


def test_a_model_that_computes_no_numbers_is_refused(tiny_model: Callable[[str], Path]) -> None:
    model, _, _ = read_model(tiny_model("llama"), "native")
    weight = model.model.norm.weight
    weight[3] = mx.nan
    with pytest.raises(NoNumbersError, match=r"no number \(NaN\).*--cpu-dtype float32"):
        _probe(model, 8)
