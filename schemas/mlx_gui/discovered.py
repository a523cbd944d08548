"""`/v1/discover`, as MLX-GUI has it.

`size_gb` is in 10**9 bytes, as the hub counts, memory in 2**30; null means that the hub does not tell.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class FoundModel(msgspec.Struct, frozen=True):
    """A model on the hub. `mlx_compatible`: it is in MLX's format; else `mlx_repo_id` names one that is, if known."""

    id: str
    name: str
    author: str | None
    downloads: int
    likes: int
    model_type: str
    size_gb: float | None
    estimated_memory_gb: float | None
    mlx_compatible: bool
    has_mlx_version: bool
    mlx_repo_id: str | None
    tags: list[str]
    description: str
    updated_at: datetime | None


class FoundModels(msgspec.Struct, frozen=True):
    """`total` counts those that are listed."""

    models: list[FoundModel]
    total: int


class FittingModel(FoundModel, frozen=True, kw_only=True):
    """The same; `memory_fit`: it is known to fit."""

    memory_fit: bool


class FittingModels(msgspec.Struct, frozen=True):
    """Models that fit into the memory that was asked about."""

    models: list[FittingModel]
    total: int


class Categories(msgspec.Struct, frozen=True):
    """Ids by category, the most downloaded first."""

    categories: dict[str, list[str]]


class FoundDetails(FoundModel, frozen=True, kw_only=True):
    """All that the hub tells of one model, and whether it fits into this machine's memory."""

    created_at: datetime | None
    library_name: str | None
    pipeline_tag: str | None
    system_compatible: bool | None
    compatibility_message: str
