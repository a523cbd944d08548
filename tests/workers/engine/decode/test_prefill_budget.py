"""How much is read between two tokens."""

import pytest

from mlx_server.workers.engine.decode.prefill_budget import (
    GAP_IN_STEPS,
    MEASURED_EVERY,
    YIELDING_S,
    YIELDING_TOKENS,
    PrefillBudget,
    readable,
)
from mlx_server.workers.engine.decode.smallest_chunk import LEAST_TOKENS, PAUSE


@pytest.mark.parametrize(
    ("gap_s", "step_s", "tokens_per_s", "most", "tokens"),
    [
        pytest.param(0.1, 0.02, 1000.0, 512, 80, id="what-the-gap-leaves"),
        pytest.param(None, 0.04, 4000.0, 512, 208, id="a-multiple-of-the-step-without-a-target"),
        pytest.param(0.1, 0.02, 1e6, 512, 512, id="no-more-than-the-most"),
        pytest.param(0.1, 0.2, 1000.0, 512, LEAST_TOKENS, id="a-step-that-is-too-slow-already"),
        pytest.param(0.1, 0.02, 0.0, 512, LEAST_TOKENS, id="nothing-measured"),
        pytest.param(0.1, 0.02, 0.0, 3, 3, id="a-small-most-holds"),
    ],
)
def test_readable(gap_s: float | None, step_s: float, tokens_per_s: float, most: int, tokens: int) -> None:
    assert readable(gap_s, step_s, tokens_per_s, most) == tokens


def decoded(pace: PrefillBudget, seconds: float, rows: int) -> None:
    pace.steps.append((seconds, rows))
    pace.reads = 0


@pytest.mark.parametrize("rate", [100.0, 1000.0, 20_000.0])
def test_pace_keeps_the_gap_on_a_machine_of_any_speed(rate: float) -> None:
    step_s, pace = 0.02, PrefillBudget(None, 512)
    for _ in range(5):
        decoded(pace, step_s, 4)
    for _ in range(40):
        pace.read(tokens := pace.tokens, step_s + tokens / rate, beside=True)
    gap = step_s + pace.tokens / rate
    assert gap <= 1.05 * GAP_IN_STEPS * step_s or pace.tokens == LEAST_TOKENS
    assert pace.tokens in (LEAST_TOKENS, 512) or gap >= 0.6 * GAP_IN_STEPS * step_s


def test_a_step_is_measured_first_and_again_after_a_while() -> None:
    pace = PrefillBudget(None, 512)
    assert pace.wants_a_step(4)
    for _ in range(3):
        decoded(pace, 0.01, 4)
        for _ in range(MEASURED_EVERY):
            assert not pace.wants_a_step(5)
            pace.read(16, 0.02, beside=True)
        assert pace.wants_a_step(4)
    assert pace.wants_a_step(40)


def test_few_that_are_answered_wait_for_many_unless_there_is_a_target() -> None:
    pace, exact = PrefillBudget(None, 512), PrefillBudget(0.1, 512)
    for one in (pace, exact):
        decoded(one, 0.05, 4)
        one.read(100, 1.0, beside=False)
    assert pace.together(1, 4) == pace.tokens
    assert pace.together(8, 1) > 8 * pace.tokens
    assert exact.together(8, 1) == exact.tokens


def test_a_floor_that_any_chunk_takes_does_not_starve_the_reading() -> None:
    """A GPU takes as long for few tokens as for many."""
    step_s, pace = 0.01, PrefillBudget(None, 2048)
    decoded(pace, step_s, 4)
    for _ in range(40):
        pace.read(tokens := pace.tokens, step_s + max(0.008, tokens / 20_000), beside=True)
    assert 200 <= pace.tokens <= 320


@pytest.mark.parametrize(
    ("fixed_s", "each_s", "least", "most"),
    [
        pytest.param(0.03, 0.0001, 64, 512, id="a-gpu-that-takes-as-long-for-few"),
        pytest.param(0.0, 0.01, LEAST_TOKENS, 2 * LEAST_TOKENS, id="each-token-takes-its-time"),
        pytest.param(0.02, 0.002, LEAST_TOKENS, 16, id="something-between"),
    ],
)
def test_where_no_chunk_fits_as_many_are_read_as_take_hardly_longer(
    fixed_s: float, each_s: float, least: int, most: int
) -> None:
    step_s, pace = 0.01, PrefillBudget(None, 512)
    decoded(pace, step_s, 4)
    for _ in range(2 * PAUSE):
        pace.read(tokens := pace.tokens, step_s + fixed_s + each_s * tokens, beside=True)
    assert least <= pace.tokens <= most


def test_a_target_is_not_passed_for_the_sake_of_speed() -> None:
    step_s, pace = 0.01, PrefillBudget(0.02, 512)
    decoded(pace, step_s, 4)
    for _ in range(2 * PAUSE):
        pace.read(pace.tokens, step_s + 0.03, beside=True)
    assert pace.tokens == LEAST_TOKENS


def test_a_chunk_of_what_makes_way_is_over_soon() -> None:
    pace = PrefillBudget(None, 512)
    assert pace.yielding == YIELDING_TOKENS
    pace.read(2048, 1.0, beside=False)
    assert pace.yielding == int(2048 * YIELDING_S)
    for _ in range(5):
        pace.read(512, 60.0, beside=False)
    assert pace.yielding == YIELDING_TOKENS
    for _ in range(5):
        pace.read(512, 0.01, beside=False)
    assert pace.yielding == 512
