"""How a download stands follows from what it was told."""

from datetime import UTC, datetime
from itertools import product

import pytest

from mlx_server.app.hub.download import MOVES, Download, DownloadStatus
from mlx_server.app.registry.rows import DownloadRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def download(status: DownloadStatus) -> Download:
    return Download(
        DownloadRow(
            id="download-1",
            hub_id="a/b",
            name="b",
            status=status.value,
            total_bytes=0,
            done_bytes=0,
            error=None,
            created_at=NOW,
            updated_at=NOW,
            auto_load=False,
        )
    )


@pytest.mark.parametrize(("before", "after"), list(product(DownloadStatus, DownloadStatus)))
def test_a_status_moves_only_where_it_may(before: DownloadStatus, after: DownloadStatus) -> None:
    one = download(before)
    if after in MOVES[before]:
        one.move(after, NOW)
        assert one.status is after
        assert one.ended.is_set() is not one.live
    else:
        with pytest.raises(AssertionError):
            one.move(after, NOW)


def test_pace_and_rest_are_those_of_the_last_seconds() -> None:
    one = download(DownloadStatus.DOWNLOADING)
    assert (one.percent, one.bytes_per_s, one.eta_s) == (0.0, None, None)
    for second in range(20):
        one.arrived(1000 if second < 5 else 1000 + (second - 4) * 100, 10_000, NOW, float(second))
    assert one.percent == 25.0
    assert one.bytes_per_s == 100.0
    assert one.eta_s == 75.0


def test_a_pace_that_is_none_promises_no_end() -> None:
    one = download(DownloadStatus.DOWNLOADING)
    for second in range(3):
        one.arrived(1000, 10_000, NOW, float(second))
    assert (one.bytes_per_s, one.eta_s) == (0.0, None)
    one.move(DownloadStatus.CANCELLED, NOW)
    assert one.bytes_per_s is None
