"""Which tokens may come next in a transcript with times."""

from __future__ import annotations

import pytest

from mlx_server.workers.engine.hear.timestamp_rules import Allowed, allowed_after

FIRST = 1000
VOCAB = FIRST + 1501
LATEST = VOCAB - 1
NO_TIME = (LATEST + 1, LATEST)


@pytest.mark.parametrize(
    ("tokens", "allowed"),
    [
        ([], Allowed(False, False, FIRST, FIRST + 50)),
        ([FIRST], Allowed(True, True, *NO_TIME)),
        ([FIRST, 5], Allowed(True, True, FIRST + 1, LATEST)),
        ([FIRST + 10, 5, 6], Allowed(True, True, FIRST + 11, LATEST)),
        ([FIRST, 5, FIRST + 20], Allowed(False, True, FIRST + 20, LATEST)),
        ([FIRST, 5, FIRST + 20, FIRST + 20], Allowed(True, True, *NO_TIME)),
        ([FIRST, 5, FIRST + 20, FIRST + 30, 6], Allowed(True, True, FIRST + 31, LATEST)),
    ],
)
def test_times_come_in_pairs_and_never_go_back(tokens: list[int], allowed: Allowed) -> None:
    assert allowed_after(tokens, FIRST, VOCAB) == allowed


def test_the_first_time_is_in_a_small_vocabulary_too() -> None:
    assert allowed_after([], FIRST, FIRST + 20).latest == FIRST + 19
