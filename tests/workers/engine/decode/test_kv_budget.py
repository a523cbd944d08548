"""The memory that a model leaves is shared out between what runs and what is kept."""

from __future__ import annotations

import pytest

from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.engine.decode.admission import HEADROOM, Footprint
from mlx_server.workers.engine.decode.kv_budget import KVBudget, share_out

GROWING = Footprint(10.0, 0.0)
SLIDING = Footprint(10.0, 0.0, windows=((100, 8.0),))
FIXED = Footprint(0.0, 500.0)


def load(**more: object) -> Load:
    return Load("m", "lm", 8, 512, "cache", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "tokens", "expected"),
    [(GROWING, 50, 500), (SLIDING, 50, 500), (SLIDING, 200, 2000 - 100 * 8), (FIXED, 200, 500)],
)
def test_sequence_takes_what_its_layers_keep(size: Footprint, tokens: int, expected: float) -> None:
    assert size.bytes_of(tokens) == expected
    if size.per_token:
        assert size.tokens_in(expected) == tokens
        assert size.tokens_in(expected - 1) == tokens - 1
    assert size.tokens_in(expected, 7) == 7


@pytest.mark.parametrize(
    ("given", "length", "size", "expected"),
    [
        pytest.param({}, 1000, GROWING, KVBudget(60_000, 20_000, 1000, 1000), id="a-share"),
        pytest.param({}, 3000, GROWING, KVBudget(50_000, 30_000, 3000, 3000), id="a-conversation"),
        pytest.param({}, 9000, GROWING, KVBudget(40_000, 40_000, 9000, 4000), id="never-more-than-what-runs"),
        pytest.param({}, None, GROWING, KVBudget(60_000, 20_000, None, 6000), id="no-context-but-memory-ends"),
        pytest.param({}, 9000, SLIDING, KVBudget(60_000, 20_000, 9000, 9000), id="windows-end-growing"),
        pytest.param({}, None, FIXED, KVBudget(60_000, 20_000, None, None), id="nothing-grows"),
        pytest.param({"context_length": 500}, 9000, GROWING, KVBudget(60_000, 20_000, 500, 500), id="limited"),
        pytest.param({"context_length": 500}, None, GROWING, KVBudget(60_000, 20_000, 500, 500), id="told"),
        pytest.param({"context_length": 5000}, 400, GROWING, KVBudget(60_000, 20_000, 400, 400), id="not-beyond"),
        pytest.param({"prefix_share": 0.5}, 1000, GROWING, KVBudget(40_000, 40_000, 1000, 1000), id="another-share"),
        pytest.param({"prefix_most": 900}, 1000, GROWING, KVBudget(79_100, 900, 1000, 1000), id="as-granted"),
        pytest.param({"prefix_cache_bytes": 0}, 1000, GROWING, KVBudget(80_000, 0, 1000, 1000), id="nothing-kept"),
        pytest.param(
            {"prefix_cache_bytes": 70_000}, 9000, GROWING, KVBudget(20_000, 70_000, 9000, 2000), id="as-given"
        ),
        pytest.param({"kv_bytes": 30_000}, 9000, GROWING, KVBudget(30_000, 30_000, 9000, 3000), id="as-much-as-runs"),
        pytest.param(
            {"kv_bytes": 90_000}, 9000, GROWING, KVBudget(90_000, 0, 9000, 9000), id="what-runs-was-given-all"
        ),
        pytest.param(
            {"kv_bytes": 1}, 9000, GROWING, KVBudget(1, 19_999, 9000, HEADROOM), id="a-short-request-always-runs"
        ),
    ],
)
def test_room_is_shared_out(given: dict[str, object], length: int | None, size: Footprint, expected: KVBudget) -> None:
    assert share_out(load(**given), length, size, 100_000) == expected


def test_note_tells_of_a_context_that_does_not_fit() -> None:
    assert KVBudget(1, 1, 4000, 4000).notes == KVBudget(1, 1, None, None).notes == []
    assert KVBudget(1, 1, 4000, 1200).notes == [
        "one request may have 1,200 of 4,000 tokens: memory holds no more KV states"
    ]


def test_what_else_is_kept_leaves_less() -> None:
    assert share_out(load(), 100, GROWING, 100_000, also_kept=40_000) == KVBudget(30_000, 10_000, 100, 100)
