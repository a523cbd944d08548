"""On the PYTHONPATH of a server this lets its workers load models of the architecture `oracle`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME = "mlx_lm.models.oracle"


class Finder:
    """Finds the one module."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Where it is; None for any other."""
        if name != NAME:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name("architecture.py"))


sys.meta_path.append(Finder())  # type: ignore[arg-type]
