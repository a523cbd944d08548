import random

import pytest

from mlx_server.workers.engine.embed.fair_batch import next_batch


@pytest.mark.parametrize(
    ("waiting", "budget", "picks"),
    [
        pytest.param([], 10, [], id="nobody waits"),
        pytest.param([[], [3]], 10, [(1, 0)], id="nothing left of one"),
        pytest.param([[30]], 10, [(0, 0)], id="longer than the budget: alone"),
        pytest.param([[30], [1]], 10, [(0, 0)], id="longer than the budget: nobody joins"),
        pytest.param([[4], [30], [4]], 12, [(0, 0), (2, 0)], id="who would make it too large waits and is first then"),
        pytest.param([[5, 5, 5, 5]], 15, [(0, 0), (0, 1), (0, 2)], id="one request fills the batch"),
        pytest.param([[9, 9, 9, 9], [2]], 27, [(0, 0), (1, 0), (0, 1)], id="a small one gets in beside a large one"),
        pytest.param([[2], [9, 9, 9]], 27, [(0, 0), (1, 0), (1, 1)], id="also before it"),
        pytest.param([[8, 8, 3], [4, 4]], 32, [(0, 0), (1, 0), (0, 1), (1, 1)], id="room is shared in turn"),
        pytest.param([[5, 1], [9]], 18, [(0, 0), (1, 0)], id="padding counts"),
        pytest.param([[2], [9, 3, 2]], 36, [(0, 0), (1, 0), (1, 1), (1, 2)], id="what is left over"),
    ],
)
def test_next_batch_serves_everybody_in_turn_and_keeps_to_the_budget(
    waiting: list[list[int]], budget: int, picks: list[tuple[int, int]]
) -> None:
    assert next_batch(waiting, budget) == picks


def test_next_batch_ends_whatever_waits_within_its_rules() -> None:
    rng = random.Random(7)
    for _ in range(200):
        waiting = [
            sorted((rng.randint(1, 40) for _ in range(rng.randint(0, 12))), reverse=True)
            for _ in range(rng.randint(1, 6))
        ]
        budget = rng.randint(1, 120)
        while any(waiting):
            picks = next_batch(waiting, budget)
            assert len(picks) == len(set(picks)) > 0
            lengths = [waiting[place][at] for place, at in picks]
            assert len(picks) == 1 or len(picks) * max(lengths) <= budget
            first = next(place for place, lengths in enumerate(waiting) if lengths)
            assert (first, 0) in picks
            waiting = [[n for at, n in enumerate(ns) if (place, at) not in picks] for place, ns in enumerate(waiting)]
