"""What kinds of models are shown together, and the searches that find them. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlx_server.app.hub.model import HubModel

GB = 10**9


@dataclass(frozen=True)
class Category:
    """A name, searches, and what of their results belongs to it: `searched` of each search, `listed` at the end."""

    name: str
    queries: tuple[dict[str, Any], ...]
    holds: Callable[[HubModel], bool] = lambda model: True
    searched: int = 10
    listed: int = 10


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
        searched=50,
    ),
    # Fifty gigabytes are at least twelve thousand million numbers, packed ones counted in words of four bytes.
    Category(
        "Large Models (> 50GB)",
        ({**tagged(), "num_parameters": "min:12B"},),
        lambda model: model.size_bytes is not None and model.size_bytes > 50 * GB,
        searched=100,
    ),
)

WORDS = (
    Category(
        "instruct",
        (tagged("text-generation", "conversational"),),
        searched=100,
        listed=100,
    ),
    Category(
        "base",
        (tagged("text-generation"),),
        lambda model: "conversational" not in model.tags,
        searched=100,
        listed=100,
    ),
    Category("code", ({**tagged("text-generation"), "search": "code"},), searched=100, listed=100),
    Category("vision", (tagged("image-text-to-text"),), searched=100, listed=100),
    Category("embedding", (tagged("sentence-similarity"), tagged("feature-extraction")), searched=100, listed=100),
)
"""The same in one word each, for those who ask for one of them."""

ALL = Category("all", (tagged(),), lambda model: model.model_type not in ("audio", "image"), searched=100, listed=100)
"""All that is served."""
