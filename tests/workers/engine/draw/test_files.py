"""Pictures as files: what is written can be read again."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mlx_server.schemas.internal.picture import PictureFormat
from mlx_server.workers.engine.draw.files import encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


@pytest.mark.parametrize("form", ["png", "webp"])
def test_a_file_of_full_quality_has_the_same_pixels(form: PictureFormat) -> None:
    picture = Image.open(BytesIO(encoded(PIXELS, form)))
    assert picture.format == form.upper()
    assert (np.asarray(picture) == PIXELS).all()


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_less_quality_makes_a_smaller_file(form: PictureFormat) -> None:
    small = encoded(PIXELS, form, 20)
    assert len(small) < len(encoded(PIXELS, form, 90))
    picture = Image.open(BytesIO(small))
    assert (picture.format, picture.size) == (form.upper(), (48, 32))
