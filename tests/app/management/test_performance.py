"""Modes as shares of what is configured."""

import pytest

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.deployment.load_spec import load_of
from mlx_server.app.deployment.performance import LEAST_CHUNK, Mode, Tuning

SETTINGS = ModelSettings("m", prefill_step_size=512, feature_cache_bytes=1000, prefix_cache_bytes=3000)


@pytest.mark.parametrize(
    ("mode", "rows", "threads", "chunk", "caches"),
    [
        (Mode.EFFICIENCY, 4, 5, 256, (500, 1500)),
        (Mode.BALANCED, 8, 10, 512, (1000, 3000)),
        (Mode.PERFORMANCE, 8, 10, 1024, (2000, 6000)),
    ],
)
def test_mode_is_a_share_of_what_is_configured(
    mode: Mode, rows: int, threads: int, chunk: int, caches: tuple[int, int]
) -> None:
    tuning = Tuning()
    tuning.mode = mode
    tuned = tuning.tuned(SETTINGS)
    assert (tuning.rows(8), tuning.threads(10), tuned.prefill_step_size) == (rows, threads, chunk)
    assert (tuned.feature_cache_bytes, tuned.prefix_cache_bytes) == caches
    assert tuned.rows("lm") == SETTINGS.rows("lm"), "memory was granted for these"


def test_what_memory_allows_stays_what_it_allows_and_its_share_follows_the_mode() -> None:
    tuning = Tuning()
    for mode, share in ((Mode.EFFICIENCY, 0.125), (Mode.BALANCED, 0.25), (Mode.PERFORMANCE, 0.5)):
        tuning.mode = mode
        spec = load_of(ModelSettings("m"), "lm", Settings(), tuning)
        assert (spec.prefix_cache_bytes, spec.prefix_share) == (None, share)


def test_least_is_enough_to_serve() -> None:
    tuning = Tuning()
    tuning.mode = Mode.EFFICIENCY
    assert (tuning.rows(1), tuning.threads(1)) == (1, 1)
    assert tuning.tuned(ModelSettings("m", prefill_step_size=LEAST_CHUNK)).prefill_step_size == LEAST_CHUNK
