"""The tiny model that knows shapes, once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.tiny.sight import SHAPES, Sight


@pytest.fixture(scope="session")
def sight() -> Iterator[Sight]:
    """The model with its processor."""
    loaded = Sight(SHAPES)
    yield loaded
    loaded.close()
