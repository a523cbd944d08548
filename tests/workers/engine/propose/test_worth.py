"""How wide a step is."""

import pytest

from mlx_server.workers.engine.propose.worth import FORGOTTEN_AFTER, MOST, WIDTHS, Worth, expected, gained


def measured(rows: int, step_s: float, token_s: float) -> Worth:
    """Steps of a machine that takes so long for a step, and for each token of it."""
    worth = Worth()
    for width in WIDTHS:
        worth.took(rows, width, step_s + token_s * rows * width)
    return worth


@pytest.mark.parametrize(
    ("rows", "token_s", "guesses", "least", "most"),
    [
        pytest.param(1, 0.0, [(MOST, 0.95)], 1 + MOST, 1 + MOST, id="tokens-cost-nothing"),
        pytest.param(1, 20.0, [(MOST, 0.95)], 1, 1, id="each-costs-a-step"),
        pytest.param(1, 0.05, [(MOST, 0.9)], 4, 16, id="something-between"),
        pytest.param(1, 0.05, [(MOST, 0.02)], 1, 1, id="bad-odds"),
        pytest.param(8, 0.05, [(MOST, 0.9)], 1, 2, id="one-of-eight-has-a-guess"),
        pytest.param(8, 0.01, [(MOST, 0.9)] * 8, 6, 16, id="all-of-eight-have"),
        pytest.param(1, 0.0, [], 1, 1, id="no-guess"),
        pytest.param(1, 0.0, [(2, 1.0)], 3, 3, id="no-wider-than-the-guess"),
    ],
)
def test_a_step_is_as_wide_as_pays(
    rows: int, token_s: float, guesses: list[tuple[int, float]], least: int, most: int
) -> None:
    assert least <= measured(rows, 1.0, token_s).best(rows, guesses).width <= most


def test_one_slow_step_is_not_held_against_its_width() -> None:
    worth = measured(1, 1.0, 0.0)
    before = worth.best(1, [(MOST, 0.9)]).width
    worth.took(1, before, 100.0)
    worth.took(1, before, 1.0)
    assert worth.best(1, [(MOST, 0.9)]).width == before


def test_what_was_too_slow_is_tried_again_after_a_while() -> None:
    worth = Worth()
    worth.took(1, 1, 1.0)
    for width in WIDTHS[1:]:
        worth.took(1, width, 1000.0)
    assert worth.best(1, [(MOST, 0.95)]).width == 1
    for _ in range(FORGOTTEN_AFTER):
        worth.took(1, 1, 1.0)
    assert worth.best(1, [(MOST, 0.95)]).width > 1


def test_a_wider_step_never_seems_to_take_less() -> None:
    times = {1: 1.0, 4: 5.0, 8: 2.0}
    seconds = [expected(times, 1, width) for width in WIDTHS]
    assert seconds == sorted(seconds)


def test_a_proposal_counts_only_behind_right_ones() -> None:
    assert gained([(2, 0.5)], 8) == pytest.approx(0.5 + 0.25)
    assert gained([(8, 0.5), (8, 0.5)], 1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("draft_s", "odds", "least", "most"),
    [
        pytest.param(None, 0.5, 2, 4, id="tried-where-nothing-was-measured"),
        pytest.param(0.01, 0.95, 8, 24, id="cheap-and-right"),
        pytest.param(0.3, 0.7, 2, 4, id="dear-and-often-right"),
        pytest.param(0.01, 0.03, 1, 1, id="cheap-and-wrong"),
        pytest.param(1.0, 0.99, 1, 1, id="as-slow-as-the-model"),
    ],
)
@pytest.mark.parametrize("rows", [1, 8])
def test_a_draft_model_proposes_as_much_as_its_own_steps_are_worth(
    rows: int, draft_s: float | None, odds: float, least: int, most: int
) -> None:
    worth = measured(rows, 1.0, 0.002)
    if draft_s is not None:
        worth.drafted(rows, 4, 4 * draft_s)
    assert least <= worth.best(rows, [(MOST, odds)] * rows, rows).width <= most


def test_a_draft_models_step_is_thought_to_take_what_it_takes_for_about_as_many_rows() -> None:
    worth = measured(8, 1.0, 0.0)
    worth.drafted(7, 1, 1.0)
    worth.drafted(1, 1, 0.01)
    assert worth.best(8, [(MOST, 0.9)] * 8, 8).width == 1
