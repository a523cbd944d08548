"""Whose turn it is to be read."""

import pytest

from mlx_server.workers.engine.decode.prefill_policy import PATIENCE, Turn, Waiting, next_turn


def _waiting(*lefts: int) -> list[Waiting]:
    return [Waiting(left) for left in lefts]


@pytest.mark.parametrize(
    ("waiting", "chunk", "together", "turn"),
    [
        pytest.param(_waiting(2000), 64, 64, (0,), id="alone"),
        pytest.param(_waiting(2000, 30), 64, 64, (1,), id="the-short-one-first"),
        pytest.param(_waiting(2000, 900), 64, 64, (1,), id="what-has-least-left-first"),
        pytest.param(_waiting(50, 60, 55), 512, 4096, (0, 2, 1), id="like-lengths-together"),
        pytest.param(_waiting(50, 60, 55), 512, 64, (0,), id="no-more-together-than-there-is-room"),
        pytest.param(_waiting(50, 60, 55), 512, 120, (0, 2), id="padding-takes-room"),
        pytest.param(_waiting(10, 400), 512, 4096, (0,), id="unlike-lengths-apart"),
        pytest.param([Waiting(50), Waiting(50, alone=True)], 512, 4096, (0,), id="some-can-not-be-joined"),
        pytest.param([Waiting(50, alone=True), Waiting(60)], 512, 4096, (0,), id="nor-join"),
        pytest.param([Waiting(2000, PATIENCE), Waiting(30)], 64, 64, (0,), id="who-was-passed-too-often-goes-first"),
        pytest.param([Waiting(90, PATIENCE - 1), Waiting(30)], 64, 64, (1,), id="who-was-not-waits"),
        pytest.param([Waiting(9), Waiting(9)], 4, 90, (0,), id="a-chunk-of-the-first"),
    ],
)
def test_next_turn(waiting: list[Waiting], chunk: int, together: int, turn: tuple[int, ...]) -> None:
    assert next_turn(waiting, chunk=chunk, together=together) == Turn(turn, chunk)


def test_all_are_read_to_their_ends_long_ones_too() -> None:
    """Short prompts keep coming, and long ones advance."""
    left, passed = [3000, 2500], [0, 0]
    for _ in range(200):
        waiting = [Waiting(max(1, left[0]), passed[0]), Waiting(max(1, left[1]), passed[1]), Waiting(20)]
        numbers = next_turn(waiting, chunk=64, together=20).numbers
        for number in (0, 1):
            passed[number] += 1
            if number in numbers:
                left[number] -= 64
                passed[number] = 0
    assert max(left) <= 64


def test_whole_prompts_are_read_to_their_ends_however_small_a_chunk_is() -> None:
    short = Waiting(30, whole=True)
    assert next_turn([Waiting(40), short, short, Waiting(900)], chunk=4, together=70) == Turn((1, 2), 30)
    assert next_turn([short, short], chunk=4, together=4) == Turn((0,), 30)
