"""What kinds of models are shown together, and the searches that find them. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlx_server.app.hub.model import HubModel

GB = 10**9


@dataclass(frozen=True)
class Category:
    """A name, searches, and what of their results belongs to it: `looked_at` of each search, `shown` at the end."""

    name: str
    queries: tuple[dict[str, Any], ...]
    holds: Callable[[HubModel], bool] = lambda model: True
    looked_at: int = 10
    shown: int = 10


def tagged(*tags: str) -> dict[str, Any]:
    """The search for models in MLX's format with these tags."""
    return {"filter": ("mlx", *tags)}


CATEGORIES = (
    Category("Popular Text Models", (tagged("text-generation"),)),
    Category("Vision Models", (tagged("image-text-to-text"),)),
    Category(
        "Multimodal Models",
        (tagged("any-to-any"), tagged("audio-text-to-text"), tagged("video-text-to-text")),
    ),
    Category("Code Models", ({**tagged("text-generation"), "search": "code"},)),
    Category("Chat Models", (tagged("conversational"),)),
    Category(
        "Small Models (< 10GB)",
        (tagged(),),
        lambda model: model.size_bytes is not None and model.size_bytes < 10 * GB,
        looked_at=50,
    ),
    # Fifty gigabytes are at least twelve thousand million numbers, packed ones counted in words of four bytes.
    Category(
        "Large Models (> 50GB)",
        ({**tagged(), "num_parameters": "min:12B"},),
        lambda model: model.size_bytes is not None and model.size_bytes > 50 * GB,
        looked_at=100,
    ),
)

WORDS = (
    Category(
        "instruct",
        (tagged("text-generation", "conversational"),),
        looked_at=100,
        shown=100,
    ),
    Category(
        "base",
        (tagged("text-generation"),),
        lambda model: "conversational" not in model.tags,
        looked_at=100,
        shown=100,
    ),
    Category("code", ({**tagged("text-generation"), "search": "code"},), looked_at=100, shown=100),
    Category("vision", (tagged("image-text-to-text"),), looked_at=100, shown=100),
    Category("embedding", (tagged("sentence-similarity"), tagged("feature-extraction")), looked_at=100, shown=100),
)
"""The same in one word each, for those who ask for one of them."""

ALL = Category("all", (tagged(),), lambda model: model.model_type not in ("audio", "image"), looked_at=100, shown=100)
"""All that is served."""
