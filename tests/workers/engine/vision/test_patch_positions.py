"""Positions of patches between those that were learned: numpy's sums say what they are."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_server.workers.engine.vision.mended.patch_positions import PatchPositions, parts, places, resampled, share

SIDE, WIDTH = 5, 3
TABLE = mx.array(np.random.default_rng(0).standard_normal((SIDE * SIDE, WIDTH)).astype(np.float32))


def test_a_picture_of_the_learned_size_has_the_learned_positions() -> None:
    rows, columns = (mx.array(one.ravel()) for one in np.mgrid[:SIDE, :SIDE])
    extent = mx.array(SIDE)
    found = resampled(TABLE, places(rows, extent, SIDE), places(columns, extent, SIDE))
    assert np.allclose(found, TABLE, atol=1e-5)


def test_shares_of_all_neighbours_are_one_and_fall_to_nothing() -> None:
    between = mx.linspace(0, 1, 11)
    assert np.allclose(sum(share(between - step) for step in (-1, 0, 1, 2)), 1, atol=1e-6)
    assert np.allclose(share(mx.array([0.0, 1.0, 2.0])), [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("place", "wanted"), [(1.5, 1.5), (2.0, 2.0), (-1.0, -0.0), (SIDE + 1.0, SIDE - 1.0)])
def test_a_slope_stays_one_and_ends_at_the_border(place: float, wanted: float) -> None:
    slope = mx.array(np.repeat(np.arange(SIDE, dtype=np.float32), SIDE)[:, None])
    assert float(resampled(slope, mx.array([place]), mx.array([2.0])).item()) == pytest.approx(wanted, abs=1e-5)


def test_every_frame_of_a_film_has_the_positions_of_a_picture() -> None:
    learned = nn.Embedding(SIDE * SIDE, WIDTH)
    learned.weight = TABLE
    rows, columns = (mx.array(np.tile(one.ravel(), 2)) for one in np.mgrid[:2, :4])
    found = PatchPositions(learned)(mx.zeros((16, WIDTH)), [8, 8], mx.array([[2, 2, 4]]), rows, columns)
    once = PatchPositions(learned)(mx.zeros((8, WIDTH)), [8], mx.array([[1, 2, 4]]), rows[:8], columns[:8])
    assert np.allclose(found, mx.concatenate([once, once]))


@pytest.mark.parametrize(
    ("there", "side", "wanted"),
    [(4, 4, [0, 1, 2, 3]), (2, 4, [0, 2]), (3, 4, [0, 1, 2]), (6, 3, [0, 0, 1, 1, 2, 2]), (1, 5, [0])],
)
def test_a_patch_has_the_position_of_the_part_in_which_it_begins(there: int, side: int, wanted: list[int]) -> None:
    assert parts(np.ones(there, bool), side).tolist() == wanted


def test_patches_beyond_a_picture_do_not_count() -> None:
    assert parts(np.array([True, True, False, False]), 4)[:2].tolist() == [0, 2]
