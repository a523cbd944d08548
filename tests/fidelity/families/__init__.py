"""Tiny configs of models that see, as transformers has them, and what a picture is to each."""

from __future__ import annotations

from fidelity.families.grids import GRIDS
from fidelity.families.parts import Family
from fidelity.families.squares import SQUARES
from fidelity.families.tiles import TILES

__all__ = ["FAMILIES", "Family"]

FAMILIES: dict[str, Family] = {**GRIDS, **SQUARES, **TILES}
"""By type; `pixtral` is a llava with another tower, as it is published."""
