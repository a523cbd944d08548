"""Pictures that the engine draws, and how far they are from others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
ONE_LEVEL = 1
"""Sums in another order, or without padding, differ in their last bits: now and then one of 256 levels."""


def drawn(family: Any, wish: Any) -> list[Pixels]:
    """The finished pictures of a wish."""
    from mlx_server.workers.engine.draw.job import DrawingJob, Picture

    job = DrawingJob(family, wish)
    pictures = []
    while (items := job.advance()) is not None:
        pictures += [item.pixels for item in items if isinstance(item, Picture)]
    return pictures


def difference(one: Pixels, other: Pixels) -> int:
    """The largest, in levels."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())
