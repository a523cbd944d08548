"""A window's tokens become segments, and say where the next window begins."""

from __future__ import annotations

import pytest

from mlx_server.workers.engine.hear.windows import (
    FRAMES,
    Cut,
    Piece,
    comes_out_badly,
    compression_ratio,
    cut,
    is_silence,
)

T = 1000


@pytest.mark.parametrize(
    ("tokens", "frames", "found"),
    [
        # The last segment has no beginning of a next one: nothing is said after it.
        ([T, 1, 2, T + 100], FRAMES, Cut((Piece((T, 1, 2, T + 100), 0, 100),), FRAMES)),
        # The next segment has begun and is heard again.
        ([T, 1, T + 100, T + 100, 2], FRAMES, Cut((Piece((T, 1, T + 100), 0, 100),), 200)),
        (
            [T, 1, T + 100, T + 110, 2, T + 300],
            FRAMES,
            Cut((Piece((T, 1, T + 100), 0, 100), Piece((T + 110, 2, T + 300), 110, 300)), FRAMES),
        ),
        # No end at all: it is what was heard until the window ends.
        ([T, 1, 2], 500, Cut((Piece((T, 1, 2), 0, 250),), 500)),
        ([], 500, Cut((Piece((), 0, 250),), 500)),
    ],
)
def test_segments_and_the_next_window(tokens: list[int], frames: int, found: Cut) -> None:
    assert cut(tokens, frames, T) == found


def test_a_window_always_goes_on() -> None:
    assert cut([T, T], FRAMES, T).advance > 0


def test_what_is_worth_another_try() -> None:
    assert comes_out_badly(3.0, -0.1, 0.0)
    assert comes_out_badly(1.0, -1.5, 0.1)
    assert not comes_out_badly(1.0, -0.5, 0.9)
    assert not comes_out_badly(1.0, -1.5, 0.9)  # silence, not a bad transcript
    assert is_silence(-1.5, 0.9)
    assert not is_silence(-0.5, 0.9)


def test_what_repeats_itself_is_compressed_well() -> None:
    assert compression_ratio("over and " * 40) > 2.4
    assert compression_ratio("The quick brown fox jumps over the lazy dog.") < 1.2
    assert compression_ratio("") == 0.0
