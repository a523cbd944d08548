"""What is known of a model before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_server.app.catalog.kinds import Kind


@dataclass(frozen=True)
class ModelOnDisk:
    """A model folder, or a .gguf file.

    `weight_bytes` are those of its weights' files and `parameters` their numbers, packed ones counted one by one.
    `kv_bytes_per_token` is what a token of one sequence keeps in the KV cache in half precision (of a head that drafts,
    with the hidden states that it reads), `window_share` the part of it in layers with sliding windows, `step_bytes`
    what a step of a model that draws takes beside its weights. What a model's files do not say is None.
    """

    path: Path
    kind: Kind
    architecture: str
    quantisation: str | None
    weight_bytes: int
    parameters: int | None = None
    context_length: int | None = None
    kv_bytes_per_token: int | None = None
    step_bytes: int | None = None
    window_share: float = 0.0
