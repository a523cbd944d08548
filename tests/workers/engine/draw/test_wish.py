"""What may be asked of a model, and what becomes of what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.workers.engine.draw.wish import CPU_PIXELS, SCORES, SEEDS, Defaults, Limits, Wish, most_pixels, settle

DISTILLED = Limits(16, 64, 2048, 1 << 20, 2, 50, 512, guided=False)
GUIDED = Limits(16, 64, 2048, 1 << 20, 2, 50, 512, guided=True)
DEFAULTS = Defaults(512, 768, 9, 0.0)


def request(**fields: Any) -> PictureRequest:
    return PictureRequest(prompt="a red circle", seed=7, **fields)


def test_what_is_left_out_is_the_models() -> None:
    assert settle(request(), DISTILLED, DEFAULTS) == Wish("a red circle", (7,), 512, 768, 9, 0.0)


def test_each_picture_has_the_next_seed() -> None:
    assert settle(request(count=3), DISTILLED, DEFAULTS).seeds == (7, 8, 9)
    last = PictureRequest(prompt="", seed=SEEDS - 1, count=2)
    assert settle(last, DISTILLED, DEFAULTS).seeds == (SEEDS - 1, 0)


def test_a_negative_prompt_goes_with_guidance() -> None:
    wish = settle(request(guidance=4.0, negative_prompt="blue"), GUIDED, DEFAULTS)
    assert (wish.guidance, wish.negative_prompt) == (4.0, "blue")


@pytest.mark.parametrize(
    ("fields", "limits", "param", "says"),
    [
        ({"width": 100}, DISTILLED, "size", "multiples of 16; 100x768"),
        ({"height": 48}, DISTILLED, "size", "from 64 to 2048"),
        ({"width": 2064}, DISTILLED, "size", "from 64 to 2048"),
        ({"width": 2048, "height": 1024}, DISTILLED, "size", "at most 1048576 pixels"),
        ({"steps": 1}, DISTILLED, "steps", "from 2 to 50"),
        ({"steps": 51}, DISTILLED, "steps", "not 51"),
        ({"guidance": 1.5}, DISTILLED, "guidance", "from 0 to 1"),
        ({"guidance": 21.0}, GUIDED, "guidance", "from 0 to 20"),
        ({"guidance": -1.0}, GUIDED, "guidance", "not -1"),
        ({"negative_prompt": "blue"}, DISTILLED, "negative_prompt", "has no effect"),
        ({"negative_prompt": "blue"}, GUIDED, "negative_prompt", "needs a `guidance` above 1"),
    ],
)
def test_what_the_model_can_not_is_refused_by_name(
    fields: dict[str, Any], limits: Limits, param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        settle(request(**fields), limits, DEFAULTS)
    assert refused.value.param == param


def test_no_picture_has_more_places_than_attention_can_count() -> None:
    assert most_pixels(1024, cpu=False) == 1024 * 1024
    assert (most_pixels(1 << 20, cpu=False) // 64) ** 2 < SCORES
    assert most_pixels(2048, cpu=True) == CPU_PIXELS < most_pixels(2048, cpu=False) < 2048 * 2048
