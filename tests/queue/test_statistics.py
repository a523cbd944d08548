import pytest

from mlx_server.queue.statistics import GAP_SECONDS, RECENT, RECENT_S, SECONDS, Histogram, Recent, Statistics


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.5, 0), (1.0, 0), (1.000001, 1), (2.0, 1), (3.0, 2), (4.0, 2), (4.1, 3), (1e9, 3)],
)
def test_histogram_counts_a_value_under_the_least_bound_not_below_it(seconds: float, bucket: int) -> None:
    histogram = Histogram((1, 2, 4))
    histogram.observe(seconds)
    assert [i for i, n in enumerate(histogram.buckets) if n] == [bucket]


def test_histogram_knows_count_sum_mean_and_max() -> None:
    histogram = Histogram((1, 2, 4))
    for seconds in (0.5, 3.5, 2.0):
        histogram.observe(seconds)
    histogram.observe(1.0, times=4)
    assert histogram.buckets == [5, 1, 1, 0]
    assert (histogram.count, histogram.sum, histogram.max) == (7, 10.0, 3.5)
    assert histogram.mean == pytest.approx(10 / 7)


def test_histogram_without_values_has_no_mean() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.sum, histogram.mean, histogram.max) == (0, 0.0, None, 0.0)


@pytest.mark.parametrize("bounds", [SECONDS, GAP_SECONDS])
def test_histogram_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_record_service_starts_with_the_first_value_and_follows_changes() -> None:
    statistics = Statistics()
    assert statistics.mean_service_s is None
    statistics.record_service(4.0)
    assert statistics.mean_service_s == 4.0
    statistics.record_service(9.0)
    assert 4.0 < statistics.mean_service_s < 9.0
    for _ in range(200):
        statistics.record_service(9.0)
    assert statistics.mean_service_s == pytest.approx(9.0, rel=0.01)


def test_statistics_do_not_share_histograms() -> None:
    one, other = Statistics(), Statistics()
    one.queue_s.observe(1.0)
    assert other.queue_s.count == 0


def test_recent_values_leave_by_age_and_by_number() -> None:
    recent = Recent[int]()
    for second in range(1000):
        recent.observe(float(second), second)
    assert recent.at(1000.0) == list(range(1001 - int(RECENT_S), 1000))
    recent.observe(1000.0, -1, times=3 * RECENT)
    assert recent.at(1000.0) == [-1] * RECENT
    assert recent.at(1000.0 + RECENT_S) == []
