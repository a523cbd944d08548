"""Films as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def film_file(
    path: Path, frames: list[Any], *, fps: float = 10.0, code: str = "mp4v", size: tuple[int, int] = (64, 48)
) -> bytes:
    """A film of frames of one colour each (red, green, blue)."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, size)
    assert writer.isOpened()
    for red, green, blue in frames:
        writer.write(np.full((size[1], size[0], 3), (blue, green, red), np.uint8))
    writer.release()
    return path.read_bytes()
