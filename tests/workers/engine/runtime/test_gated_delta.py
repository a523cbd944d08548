"""The gated delta rule by chunks, against the library's own recurrence."""

from __future__ import annotations

import inspect
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import gated_delta as library

from mlx_server.workers.engine.runtime import gated_delta

pytestmark = pytest.mark.model


def numbers(tokens: int, least: float = 0.5, heads: int = 4, batch: int = 2) -> dict[str, mx.array]:
    """Arguments as a layer makes them: keys of length 1, decays of at least `least`."""
    mx.random.seed(tokens)

    def unit(size: int) -> mx.array:
        made = mx.random.normal((batch, tokens, 2, size))
        return made / mx.linalg.norm(made, axis=-1, keepdims=True)

    return {
        "q": unit(16),
        "k": unit(16),
        "v": mx.random.normal((batch, tokens, heads, 8)),
        "g": mx.random.uniform(least, 1, (batch, tokens, heads)),
        "beta": mx.random.uniform(0, 1, (batch, tokens, heads)),
        "state": mx.random.normal((batch, heads, 8, 16)),
    }


def check(given: dict[str, Any], counted: Any = slice(None)) -> None:
    ours, theirs = gated_delta.by_chunks(**given), gated_delta.library_ops(**given)
    np.testing.assert_allclose(np.array(ours[0])[counted], np.array(theirs[0])[counted], atol=1e-5)
    np.testing.assert_allclose(np.array(ours[1]), np.array(theirs[1]), atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 64, 200])
@pytest.mark.parametrize("least", [0.9, 0.0])
def test_it_gives_what_the_recurrence_gives(tokens: int, least: float) -> None:
    check(numbers(tokens, least))
    check({**numbers(tokens, least), "state": None})


def test_what_is_forgotten_at_once_leaves_nothing() -> None:
    given = numbers(40)
    given["g"][:, 20:24] = 0.0
    check(given)


def test_tokens_that_do_not_count_leave_the_state_as_it_was() -> None:
    given = numbers(50)
    mask = mx.arange(50)[None] >= mx.array([[0], [33]])
    check({**given, "mask": mask}, np.array(mask))


def test_one_head_of_keys_for_each_of_values() -> None:
    check(numbers(33, heads=2))


def test_gates_of_each_dimension_stay_the_librarys() -> None:
    given = numbers(32)
    given["g"] = mx.random.uniform(0.5, 1, (2, 32, 4, 16))
    check(given)


def test_a_worker_computes_so() -> None:
    """Until the library does it itself off Metal: then this way of ours has no reason to be."""
    gated_delta.quicken()
    assert library.gated_delta_ops is gated_delta.by_chunks
    assert "for t in range(T)" in inspect.getsource(gated_delta.library_ops)
