"""A picture that models are tried with."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from mlx_server.schemas.internal.generation import Media


def trial_picture(size: tuple[int, int]) -> Media:
    """A picture with other colours at every place."""
    bands = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    file = BytesIO()
    Image.merge("RGB", bands).resize(size).save(file, "PNG")
    return Media("image", file.getvalue(), 0, "messages")
