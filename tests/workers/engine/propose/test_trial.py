"""Which models may check guesses."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from mlx_server.workers.engine.propose.trial import objection

pytestmark = pytest.mark.model


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_models_that_read_several_tokens_as_one_by_one_may(load_tiny: Callable[[str], Any], architecture: str) -> None:
    assert objection(load_tiny(architecture), 300) is None


@pytest.mark.parametrize(
    ("architecture", "why"),
    [("mamba", "can't forget"), ("gemma3_text", "can't forget"), ("gemma2", "cannot be broadcast")],
)
def test_others_may_not(load_tiny: Callable[[str], Any], architecture: str, why: str) -> None:
    assert why in (objection(load_tiny(architecture), 300) or "")


@pytest.mark.parametrize(("architecture", "why"), [("qwen3_next", ""), ("mamba", "differ by"), ("llama", "")])
def test_recurrent_layers_may_where_they_read_padded_rows_alike(
    load_tiny: Callable[[str], Any], architecture: str, why: str
) -> None:
    assert why in (found := objection(load_tiny(architecture), 300, rereads=True) or "")
    assert bool(found) is bool(why)


def test_a_model_that_tells_the_last_place_only_may_not(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")

    class Last:
        """Has nothing to say of all other places."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            logits: mx.array = model(tokens, cache=cache)
            return mx.concatenate([mx.zeros_like(logits[:, :-1]), logits[:, -1:]], axis=1)

    assert "differ by" in (objection(Last(), 300) or "")


def test_a_model_that_is_off_after_a_cut_may_not(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")

    class Forgetful:
        """Takes all rows for as long as the longest."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            for layer in cache or ():
                if getattr(layer.offset, "ndim", 0):
                    layer.offset = mx.broadcast_to(layer.offset.max(), layer.offset.shape)
            logits: mx.array = model(tokens, cache=cache)
            return logits

    assert "differ by" in (objection(Forgetful(), 300) or "")
