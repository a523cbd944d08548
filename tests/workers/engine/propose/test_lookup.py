"""What is guessed from what was said."""

import random

import pytest

from mlx_server.workers.engine.propose.lookup import RESUMES_WITHIN, Lookup

SAID = list(range(100, 140))


def lookup_in(tokens: list[int]) -> Lookup:
    return Lookup([], [], tokens)


def followed(lookup: Lookup, tokens: list[int]) -> Lookup:
    for token in tokens:
        lookup.follow(token)
    return lookup


@pytest.mark.parametrize(
    ("tokens", "guess"),
    [
        pytest.param([*SAID, 100, 101, 102], [103, 104, 105], id="as-it-went-on"),
        pytest.param([*SAID, 100, 101], [], id="too-short-to-tell"),
        pytest.param([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], [5, 1, 2], id="as-it-went-on-lately"),
        pytest.param([7, 7, 7, 7], [7, 7, 7], id="over-and-over"),
        pytest.param([1, 2, 3, 4, 1, 2, 3], [4, 1, 2], id="over-and-over-some"),
        pytest.param([1, 2], [], id="nothing"),
    ],
)
def test_what_has_been_said_goes_on_as_it_did(tokens: list[int], guess: list[int]) -> None:
    assert lookup_in(tokens).guess(3) == guess
    assert followed(lookup_in(tokens[:1]), tokens[1:]).guess(3) == guess, "token by token"


@pytest.mark.parametrize(
    ("written", "guess"),
    [
        pytest.param([100, 101, 102, 103, 9, 105, 106], [107, 108], id="a-token-is-another"),
        pytest.param([100, 101, 102, 103, 9, 8, 104, 105], [106, 107], id="some-more"),
        pytest.param([100, 101, 102, 103, 110, 111], [112, 113], id="some-left-out"),
        pytest.param([100, 101, 102, 103, 9, 8, 7, 6], [], id="something-else"),
    ],
)
def test_a_copy_with_a_difference_goes_on_behind_it(written: list[int], guess: list[int]) -> None:
    assert followed(lookup_in([*SAID, 5]), written).guess(2) == guess


def test_what_was_left_long_ago_is_no_place_to_go_on() -> None:
    lookup = followed(lookup_in([*SAID, 5]), [100, 101, 102, 103, *[9, 8] * RESUMES_WITHIN])
    followed(lookup, [1, 110, 111])
    assert lookup.guess(2) == [], "two tokens are enough only near by"
    followed(lookup, [112])
    assert lookup.guess(2) == [113, 114]


def test_a_prediction_is_the_first_guess() -> None:
    lookup = Lookup([1], SAID, [1, 2, 3])
    assert lookup.guess(2) == [100, 101]
    followed(lookup, [100, 101, 9, 103, 104])
    assert lookup.guess(2) == [105, 106]


def test_odds_follow_what_comes() -> None:
    right = followed(lookup_in([*SAID, 100, 101, 102]), SAID[3:])
    rng = random.Random(1)
    chance = followed(lookup_in([]), [rng.randrange(6) for _ in range(3000)])
    assert right.odds > 0.95
    assert chance.odds < 0.4
