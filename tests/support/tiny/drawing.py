"""Tiny random models that draw: noise for pictures, but by all the steps of a real one."""

from __future__ import annotations

from pathlib import Path

GUIDED_SHIFT = 6.0
"""Of the noise schedule of the variant that knows guidance."""


def make_drawing_model(folder: Path, *, guided: bool = False) -> Path:
    """Z-Image's architecture with random weights, in the sizes of the trained one in tests/drawing/model."""
    from drawing.folder import TURBO_SHIFT, make_parts, write_folder

    write_folder(folder, make_parts(7), GUIDED_SHIFT if guided else TURBO_SHIFT)
    return folder
