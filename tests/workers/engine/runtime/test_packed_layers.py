"""Products with weights that stay packed, beside those with the same weights dequantised to float32."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from mlx_server.workers.engine.runtime import vector_math
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.engine.runtime.packed_layers import (
    ASKED,
    MANY,
    UNPACKED,
    PackedLinear,
    dequantised,
    fits,
    packed_layer,
)
from mlx_server.workers.engine.runtime.packing import are_enough, form_of, packed_layers, pays

FORMS = [("affine", 4, 32), ("affine", 4, 64), ("affine", 4, 128), ("affine", 8, 64), ("mxfp4", 4, 32)]

NEAR = 1e-5
"""As a share of the largest number of a result."""


def assert_near(found: mx.array, expected: mx.array) -> None:
    assert found.shape == expected.shape
    assert found.dtype == mx.float32
    assert mx.abs(found - expected).max().item() <= NEAR * mx.abs(expected).max().item()


@pytest.mark.parametrize(("mode", "bits", "group_size"), FORMS)
@pytest.mark.parametrize("rows", [1, 3, MANY - 1, MANY])
def test_linear_layer_is_that_of_its_dequantised_weights(mode: str, bits: int, group_size: int, rows: int) -> None:
    mx.random.seed(rows)
    layer = nn.QuantizedLinear(384, 69, True, group_size, bits, mode)
    layer.bias = mx.random.normal((69,))
    x = mx.random.normal((1, rows, 384))
    assert_near(packed_layer(layer)(x), x @ dequantised(layer).T + layer.bias)


def test_weights_that_are_too_many_to_unpack_at_once_are_multiplied_by_parts() -> None:
    mx.random.seed(0)
    layer = nn.QuantizedLinear(512, UNPACKED // 512 + 8, False, 64, 4)
    x = mx.random.normal((MANY, 512))
    assert_near(packed_layer(layer)(x), x @ dequantised(layer).T)


def test_embedding_as_output_layer_is_that_of_its_dequantised_weights() -> None:
    mx.random.seed(0)
    layer = nn.QuantizedEmbedding(101, 64, 64, 4)
    packed, x = packed_layer(layer), mx.random.normal((2, 3, 64))
    assert_near(packed.as_linear(x), x @ dequantised(layer).T)
    assert_near(packed(mx.array([[5, 100]])), dequantised(layer)[mx.array([[5, 100]])])


@pytest.mark.parametrize(("mode", "bits", "group_size"), [("affine", 4, 64), ("mxfp4", 4, 32)])
def test_experts_are_those_of_their_dequantised_weights(mode: str, bits: int, group_size: int) -> None:
    mx.random.seed(0)
    layer = QuantizedSwitchLinear(128, 24, 5, True, group_size, bits, mode)
    plain = SwitchLinear(128, 24, 5)
    plain.weight, plain.bias = dequantised(layer), mx.random.normal((5, 24))
    layer.bias = plain.bias
    x, experts = mx.random.normal((2, 3, 1, 1, 128)), mx.array(np.arange(12).reshape(2, 3, 2) % 5)
    assert_near(packed_layer(layer)(x, experts), plain(x, experts))


def test_half_precision_and_views_are_multiplied_as_float32() -> None:
    mx.random.seed(0)
    layer = nn.QuantizedLinear(64, 8, False, 64, 4)
    x = mx.random.normal((64, 2)).astype(mx.float16)
    assert_near(packed_layer(layer)(x.T), x.T.astype(mx.float32) @ dequantised(layer).T)


def test_weights_that_were_replaced_are_read_anew() -> None:
    mx.random.seed(0)
    packed, other, x = (
        packed_layer(nn.QuantizedLinear(64, 8, False, 64, 4)),
        nn.QuantizedLinear(64, 8, False, 64, 4),
        mx.random.normal((1, 64)),
    )
    packed(x)
    packed.update(other.parameters())
    assert_near(packed(x), x @ dequantised(other).T)


def test_nothing_is_computed_that_nobody_asks_for() -> None:
    packed = packed_layer(nn.QuantizedLinear(64, 8, False, 64, 4))
    before = vector_math.lazy.set(True)
    try:
        packed(mx.ones((1, 64)))
    finally:
        vector_math.lazy.reset(before)
    assert packed._packed is None


def test_output_layer_computes_a_prompt_once_it_is_asked_for() -> None:
    mx.random.seed(0)
    layer = nn.QuantizedLinear(64, 8, False, 64, 4)
    packed, x = packed_layer(layer, "model.lm_head"), mx.random.normal((1, ASKED + 1, 64))
    product = packed(x)
    assert packed._packed is None
    assert_near(product, x @ dequantised(layer).T)
    assert_near(packed(x[:, :ASKED]), product[:, :ASKED])
    assert packed._packed is not None


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.QuantizedLinear(64, 8, False, 32, 4), True),
        (nn.QuantizedLinear(64, 8, False, 32, 3), False),
        (nn.QuantizedLinear(64, 8, False, 16, 4, "nvfp4"), False),
        (nn.Linear(64, 8), False),
    ],
    ids=["4 bits", "codes cross bytes", "another float", "not quantised"],
)
def test_layers_without_a_kernel_do_not_fit(layer: Any, expected: bool) -> None:
    assert fits(layer) == expected


def test_packed_layer_is_one_of_the_library_with_the_same_arrays() -> None:
    layer = nn.QuantizedLinear(64, 8, True, 32, 4)
    packed = packed_layer(layer)
    assert isinstance(packed, PackedLinear)
    assert isinstance(packed, nn.QuantizedLinear)
    assert packed.weight is layer.weight
    assert packed.parameters().keys() == layer.parameters().keys()


def test_weights_are_tried_by_shape() -> None:
    small, wide = nn.QuantizedLinear(128, 64, False, 64, 4), nn.QuantizedLinear(128, 512, False, 64, 4)
    assert [form_of(layer) for layer in (small, wide)] == [(64, 128, 64, 4, "affine"), (512, 128, 64, 4, "affine")]
    experts = QuantizedSwitchLinear(128, 64, 3, False, 32, 8)
    assert form_of(experts) == (64, 128, 32, 8, "affine")


def test_small_weights_are_not_packed_where_that_is_tried() -> None:
    # Each product of so little waits longer for its turn than it takes.
    model = nn.Sequential(*(nn.QuantizedLinear(64, 64, False, 64, 4) for _ in range(2)))
    assert packed_layers(model, tried=True) == []
    assert len(packed_layers(model, tried=False)) == 2


@pytest.mark.parametrize(("shares", "is_packed", "more"), [([0.3], True, 0), ([1.5], False, 0), ([0.9, 0.7], False, 1)])
def test_weights_are_tried_until_it_is_clear(tmp_path: Path, shares: list[float], is_packed: bool, more: int) -> None:
    kept, form = KeptTrials(tmp_path / "kept.json"), (64, 64, 64, 4, "affine")
    kept.put(f"packed {form}", shares)
    assert pays(form, kept) is is_packed
    found = KeptTrials(tmp_path / "kept.json").get(f"packed {form}", list[float]) or []
    assert (found[: len(shares)], len(found)) == (shares, len(shares) + more)


@pytest.mark.parametrize(
    ("shares", "enough"), [([], False), ([0.7], False), ([0.5], True), ([1.1], True), ([0.7, 0.8, 0.9], True)]
)
def test_a_share_far_from_the_border_is_enough_and_so_are_three(shares: list[float], enough: bool) -> None:
    assert are_enough(shares) is enough
