"""What is known of a model on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from mlx_server.app.machine.sizes import people_count

MEMORY_FACTOR = 1.2
"""Weights, and a fifth of them for KV states and what is being computed."""

WORKER_BYTES = 384 << 20
"""A worker without a model, and the buffers of a small one: as the fleet counts them."""


@dataclass(frozen=True)
class HubModel:
    """A repository. What the hub does not tell is None.

    `model_type`: `text`, `vision`, `multimodal`, `audio`, `embedding`, `reranker` or `image`. `size_bytes` is exact: in
    listings its weights, in details all that would be downloaded. `parameters` counts packed numbers one by one.
    `mlx_compatible`: it is in MLX's format itself; otherwise `mlx_repo_id` names a version that is, if there is one.
    """

    id: str
    model_type: str
    tags: tuple[str, ...]
    downloads: int
    likes: int
    mlx_compatible: bool
    created_at: datetime | None = None
    updated_at: datetime | None = None
    library_name: str | None = None
    pipeline_tag: str | None = None
    architecture: str | None = None
    quantisation: str | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    mlx_repo_id: str | None = None
    gated: bool = False
    base_model: str | None = None

    @property
    def name(self) -> str:
        """Its name without its author."""
        return self.id.rpartition("/")[2]

    @property
    def author(self) -> str | None:
        """Whose it is."""
        return self.id.rpartition("/")[0] or None

    @property
    def has_mlx_version(self) -> bool:
        """Whether there is a way to serve it: itself or a version in MLX's format."""
        return self.mlx_compatible or self.mlx_repo_id is not None

    @property
    def estimated_memory_bytes(self) -> int | None:
        """What serving it takes, roughly."""
        return None if self.size_bytes is None else int(self.size_bytes * MEMORY_FACTOR) + WORKER_BYTES

    def memory_fit(self, available_bytes: int) -> bool | None:
        """Whether so much memory is enough; None if its size is not known."""
        needed = self.estimated_memory_bytes
        return None if needed is None else needed <= available_bytes

    @property
    def title(self) -> str:
        """Its name as people write it: `Mistral 7B Instruct v0.3 (4-bit)`."""
        held = self.quantisation or ""
        end = re.search(rf"[-_]{held.replace('-', '-?')}$", self.name, re.IGNORECASE) if held.isascii() else None
        words = re.sub(r"[-_]+", " ", self.name[: end.start()] if end and held else self.name)
        return f"{words} ({held})" if end and held else words

    @property
    def description(self) -> str:
        """One sentence of what is known: listings carry none of the author's."""
        size = people_count(self.parameters) if self.parameters else None
        facts = [self.architecture, f"{size} parameters" if size else None, self.quantisation]
        what = (self.pipeline_tag or self.model_type).replace("-", " ")
        words = f"{what[:1].upper()}{what[1:]} model: " + ", ".join(fact for fact in facts if fact)
        origin = f"; made from {self.base_model}" if self.base_model else ""
        return f"{words.removesuffix(': ')}{origin}"
