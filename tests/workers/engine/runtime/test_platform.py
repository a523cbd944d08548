"""How weights are held on a CPU, and what is said of a model that is large for the machine."""

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import psutil
import pytest
from mlx.utils import tree_flatten

from mlx_server.workers.engine.runtime.platform import large_for, on_cpu, size_notes, suit_weights


def quantised(bits: int) -> Any:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    model.set_dtype(mx.float16)
    nn.quantize(model, group_size=32, bits=bits)
    return model


def dtypes(model: Any) -> set[Any]:
    return {array.dtype for _, array in tree_flatten(model.parameters())}


@pytest.mark.parametrize(
    ("cpu_dtype", "bits", "expected", "part"),
    [
        ("auto", 3, {mx.float32}, "dequantised to float32"),
        ("packed", 4, {mx.uint32, mx.float32}, "2 layers stay packed"),
        ("packed", 3, {mx.float32}, "dequantised to float32"),
        ("float32", 4, {mx.float32}, "dequantised to float32"),
        ("native", 4, {mx.uint32, mx.float16}, "as they are stored"),
    ],
)
def test_weights_on_a_cpu_are_held_as_was_asked(cpu_dtype: Any, bits: int, expected: set[Any], part: str) -> None:
    assert on_cpu()
    model, [note] = suit_weights(quantised(bits), cpu_dtype)
    assert dtypes(model) == expected
    assert part in note


def test_how_much_memory_is_free_is_logged_and_in_no_note(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    with caplog.at_level("INFO"):
        _, [note] = suit_weights(quantised(3), "auto")
    assert "2 layers stay quantised" in note
    assert note.count("GiB") == 1, "what is needed"
    assert "0.0 GiB of memory are free" in caplog.text


def test_large_model_is_warned_of_by_mlx_lms_rule() -> None:
    assert large_for(90 << 20, 100 << 20) == []
    [warning] = large_for(91 << 20, 100 << 20)
    assert warning.startswith("[WARNING] Generating with a model that requires 91 MB")
    assert "100 MB" in warning


def test_nothing_is_said_where_mlx_knows_no_limit() -> None:
    assert not mx.metal.is_available()
    assert size_notes(1 << 60) == []
