import math

import pytest
from support.running.queues import request

from mlx_server.queue import policy
from mlx_server.queue.policy import UNMEASURED_SERVICE_S, BatchClass, Selection
from mlx_server.schemas.internal.generation import GenerationRequest

A, B = BatchClass("a"), BatchClass("b")


@pytest.mark.parametrize(
    ("mean_service_s", "ages_s", "expected"),
    [
        pytest.param(2.0, [1.0], 0.5, id="one-runs"),
        pytest.param(2.0, [0.0] * 8, 4.0, id="eight-run"),
        pytest.param(2.0, [], 0.5, id="nothing-runs"),
        pytest.param(None, [], 1 / UNMEASURED_SERVICE_S, id="unmeasured"),
        pytest.param(None, [0.0, 0.0], 2 / UNMEASURED_SERVICE_S, id="unmeasured-two-run"),
        pytest.param(2.0, [10.0, 30.0], 0.1, id="older-than-the-mean"),
        pytest.param(2.0, [0.0, 3.0], 1.0, id="mean-age-below-the-mean"),
        pytest.param(None, [60.0], 1 / 60, id="unmeasured-and-old"),
        pytest.param(0.0, [0.0], 1000.0, id="never-infinite"),
    ],
)
def test_service_rate_is_those_running_over_the_time_each_takes(
    mean_service_s: float | None, ages_s: list[float], expected: float
) -> None:
    assert policy.service_rate(mean_service_s, ages_s) == pytest.approx(expected)


@pytest.mark.parametrize("capacity", [1, 3, 108])
@pytest.mark.parametrize("rate", [0.01, 1.0, 50.0, 1000.0])
def test_promise_comes_after_the_next_free_place_and_after_the_last_promise(rate: float, capacity: int) -> None:
    first = policy.promise(100.0, 0.0, rate, capacity)
    second = policy.promise(100.0, first, rate, capacity)
    assert first >= 100.0 + 1 / rate
    assert second - first >= 1 / rate
    assert second - first == pytest.approx(policy.promise(100.0, second, rate, capacity) - second)


@pytest.mark.parametrize("capacity", [1, 3, 108])
@pytest.mark.parametrize("rate", [0.01, 1.0, 50.0, 1000.0])
def test_promise_gives_no_second_to_more_clients_than_fit(rate: float, capacity: int) -> None:
    promised, promises = 0.0, []
    for _ in range(20 * capacity):
        promised = policy.promise(0.0, promised, rate, capacity)
        if promised == policy.LONGEST_PROMISE_S:
            break
        promises.append(policy.retry_after_s(0.0, promised))
    assert max(promises.count(second) for second in promises) <= capacity


def test_promise_forgets_promises_that_have_passed() -> None:
    assert policy.promise(100.0, 5.0, 1.0, 3) == policy.promise(100.0, 100.0, 1.0, 3)


@pytest.mark.parametrize(
    ("now", "promised", "expected"),
    [(0.0, 0.01, 1), (0.0, 1.0, 1), (0.0, 1.01, 2), (10.0, 10.0, 1), (10.0, 9.0, 1), (10.5, 20.25, 10)],
)
def test_retry_after_is_whole_seconds_and_never_early(now: float, promised: float, expected: int) -> None:
    seconds = policy.retry_after_s(now, promised)
    assert isinstance(seconds, int)
    assert seconds == expected
    assert seconds >= math.ceil(promised - now)


@pytest.mark.parametrize(
    ("sent", "replays", "expected"),
    [(False, 0, True), (False, 1, False), (False, 2, False), (True, 0, False), (True, 1, False)],
)
def test_may_replay_is_once_and_unseen(sent: bool, replays: int, expected: bool) -> None:
    assert policy.may_replay(sent=sent, replays=replays) is expected


@pytest.mark.parametrize(
    ("pending", "running", "expected"),
    [
        pytest.param([], None, None, id="nobody-waits"),
        pytest.param([], A, None, id="nobody-waits-while-some-run"),
        pytest.param([(A, 0), (B, 0)], None, Selection(0, None), id="the-first-begins"),
        pytest.param([(A, 9), (B, 0)], None, Selection(0, None), id="the-first-begins-however-long-it-has-waited"),
        pytest.param([(A, 0), (A, 0)], A, Selection(0, None), id="the-first-joins-its-like"),
        pytest.param([(B, 0), (A, 0)], A, Selection(1, 4), id="the-second-joins-past-the-first"),
        pytest.param([(B, 3), (A, 0)], A, Selection(1, 1), id="as-far-as-the-first-is-patient"),
        pytest.param([(B, 4), (A, 0)], A, None, id="the-first-has-lost-patience"),
        pytest.param([(B, 4), (B, 0), (A, 0)], A, None, id="the-first-has-lost-patience-with-all"),
        pytest.param([(B, 1), (B, 2), (B, 0), (A, 0)], A, Selection(3, 2), id="the-least-patient-of-those-passed"),
        pytest.param([(B, 0), (B, 0)], A, None, id="none-of-the-class"),
    ],
)
def test_select_next_keeps_like_with_like_and_lets_nobody_wait_for_ever(
    pending: list[tuple[BatchClass, int]], running: BatchClass | None, expected: Selection | None
) -> None:
    assert policy.select_next(pending, running, patience=4) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (request(1), request(5), True),
        (request(1, "a"), request(1, "a"), True),
        (request(1, "a"), request(1), False),
        (request(1, "a"), request(1, "b"), False),
    ],
)
def test_batch_class_tells_what_may_run_together(one: GenerationRequest, other: GenerationRequest, same: bool) -> None:
    assert (policy.batch_class(one) == policy.batch_class(other)) is same
