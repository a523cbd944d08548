"""No speed is told that the memory's bandwidth does not allow."""

from typing import Any

import pytest

from mlx_server.app.hub.model import HubModel
from mlx_server.app.hub.speed import CHIPS, tokens_per_s


def model(size_bytes: int | None = 4_100_000_000, id_: str = "a/Mistral-7B-4bit", **more: Any) -> HubModel:
    known = {"model_type": "text", "tags": (), "downloads": 0, "likes": 0, "mlx_compatible": True}
    return HubModel(id_, size_bytes=size_bytes, **{**known, **more})


def test_a_token_takes_as_long_as_reading_all_weights() -> None:
    assert [tokens_per_s(model(), chip) for chip in CHIPS.values()] == [16.6, 24.4, 24.4]


@pytest.mark.parametrize(
    "unknown",
    [
        model(None),
        model(model_type="embedding"),
        model(id_="a/Qwen3-30B-A3B-4bit"),
        model(id_="a/Mixtral-8x7B"),
        model(architecture="qwen3_moe"),
        model(40_000_000_000),
    ],
)
def test_what_is_not_known_or_does_not_fit_has_no_speed(unknown: HubModel) -> None:
    assert tokens_per_s(unknown, CHIPS["m3"]) is None


def test_a_model_may_fit_one_chip_and_not_another() -> None:
    assert tokens_per_s(model(18_000_000_000), CHIPS["m1"]) is None
    assert tokens_per_s(model(18_000_000_000), CHIPS["m2"]) == 5.6
