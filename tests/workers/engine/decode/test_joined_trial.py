"""Which models read a chunk of a prompt along with rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_server.workers.engine.decode.joined_trial import ENOUGH, PAIRS, TRIAL, are_enough, costs, may_join, objection
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials

pytestmark = pytest.mark.model


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_models_that_see_each_call_by_itself_may(load_tiny: Callable[[str], Any], architecture: str) -> None:
    assert objection(load_tiny(architecture), 300) is None


@pytest.mark.parametrize("architecture", ["mamba", "gemma3_text"])
def test_models_with_other_caches_may_not(load_tiny: Callable[[str], Any], architecture: str) -> None:
    assert "of another kind" in (objection(load_tiny(architecture), 300) or "")


class Changed:
    """A model that is another one when it reads many rows."""

    def __init__(self, model: Any, many: Callable[[mx.array], mx.array]) -> None:
        self._model = model
        self._many = many

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, ids: mx.array, cache: Any = None) -> mx.array:
        logits: mx.array = self._model(ids, cache=cache)
        return self._many(logits) if ids.shape[0] > 4 else logits


def _raise(_: mx.array) -> mx.array:
    raise ValueError("too many")


@pytest.mark.parametrize(("many", "why"), [(lambda logits: logits[..., ::-1], "differ by"), (_raise, "too many")])
def test_a_model_that_is_another_one_in_a_joined_pass_may_not(llama: Any, many: Any, why: str, tmp_path: Path) -> None:
    kept = KeptTrials(tmp_path / "kept.json")
    assert why in (objection(Changed(llama, many), 300) or "")
    assert not may_join(Changed(llama, many), 300, kept)
    assert not (tmp_path / "kept.json").exists()


def test_what_one_pass_takes_is_measured_until_it_is_clear(llama: Any, tmp_path: Path) -> None:
    def slow(logits: mx.array) -> mx.array:
        for _ in range(10):
            mx.eval(mx.random.normal((512, 512)) @ mx.random.normal((512, 512)))
        return logits

    assert min(costs(Changed(llama, slow), 300)) > 1
    kept = KeptTrials(tmp_path / "kept.json")
    kept.put(TRIAL, [0.9, 1.1, 1.2])
    assert not may_join(Changed(llama, slow), 300, kept)
    ratios = kept.get(TRIAL, list[float])
    assert ratios is not None
    assert len(ratios) == 3 + PAIRS
    kept.put(TRIAL, [1.2])
    assert not may_join(llama, 300, kept)
    assert kept.get(TRIAL, list[float]) == [1.2]


@pytest.mark.parametrize(
    ("ratios", "enough"),
    [([], False), ([0.7, 0.9], True), ([1.0, 1.3], True), ([0.7, 1.3, 0.8], False), ([0.7, 1.3] * ENOUGH, True)],
    ids=["none", "faster", "slower", "unclear", "many"],
)
def test_pairs_that_agree_are_enough_and_so_are_many(ratios: list[float], enough: bool) -> None:
    assert are_enough(ratios) is enough
