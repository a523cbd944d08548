"""Draft heads: parts that were trained to draft for one model from its hidden states (MTP heads, EAGLE-3, DFlash), as
mlx-vlm loads and computes them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_server.schemas.internal.messages import Load, Loading
from mlx_server.workers.engine.decode.admission import Footprint
from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.loading.loading import evaluate
from mlx_server.workers.engine.propose.readings import BlockReading, Reading, StepReading
from mlx_server.workers.engine.propose.telling import TellingModel, hidden_of
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError, one_line

AFTER_THE_NORM = ("qwen3_5_mtp",)
"""MTP heads that read what comes out of the model's last norm."""


class DraftHead:
    """A loaded head, and the model that it drafts for. Engine thread only."""

    def __init__(self, drafter: Any, kind: str, model: TellingModel) -> None:
        """`kind` is mlx-vlm's: `mtp`, `eagle3` or `dflash`."""
        self._drafter = drafter
        self._kind = kind
        self._model = model
        self.most = int(drafter.config.block_size) - 1
        """How many tokens at a time it was trained to propose."""
        self.footprint = self._try()
        """The memory that it takes for a row."""

    @property
    def takes_rows_together(self) -> bool:
        """Whether it proposes to rows of different lengths in one call."""
        return self._kind != "dflash"

    def begin(self) -> Reading:
        """What it knows of a row of which it has read nothing."""
        return BlockReading(self._own()) if self._kind == "dflash" else StepReading(self._own)

    def _own(self) -> tuple[Any, list[Any]]:
        """mlx-vlm's drafter with the same weights and a state of its own, and its empty KV states."""
        own = copy.copy(self._drafter)
        return own, own.reset(self._model)

    def _try(self) -> Footprint:
        """Have it propose after a few tokens. Raises whatever it raises that does not fit the model."""
        tokens, cache, reading = [1, 2, 3, 4], self._model.make_cache(), self.begin()
        self._model(mx.array([tokens[:-1]]), cache=cache)
        reading.read([tokens[1:]], hidden_of(cache[-1], [(0, 0, 3)]), None)
        mx.eval(reading.propose([tokens[-1]], self.most, None))
        layers = list(flat(reading.cache))
        return Footprint(sum(layer.nbytes / layer.keys.shape[2] for layer in layers), 0.0)


def load_head(
    spec: Load, folder: Path, model: Any, report: Callable[[Loading], None]
) -> tuple[DraftHead, TellingModel]:
    """Load a head for a model, and try it; and the model, which tells its hidden states from now on. Raises
    ModelLoadError."""
    try:
        from mlx_vlm.speculative import load_drafter

        drafter, kind = load_drafter(str(folder), lazy=True, trust_remote_code=False)
    except Exception as error:
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error
    drafter, _ = platform.suit_weights(drafter, spec.cpu_dtype)
    evaluate(drafter, report)
    try:
        telling = TellingModel(model, parts_of(model, drafter, kind))
        head = DraftHead(drafter, kind, telling)
    except Exception as error:
        raise ModelLoadError(f"{folder} can't draft for this model: {one_line(error)}") from error
    mx.clear_cache()
    return head, telling


def parts_of(model: Any, drafter: Any, kind: str) -> list[Any]:
    """The parts of a model whose hidden states a head reads. Raises ValueError, AttributeError or IndexError."""
    inner = model
    for name in ("language_model", "model"):
        inner = getattr(inner, name, inner)
    config = drafter.config
    if kind == "mtp":
        if config.model_type not in AFTER_THE_NORM:
            raise ValueError(f"where it reads hidden states of type {config.model_type!r} is not known")
        return [inner.norm]
    places = config.capture_layer_ids if kind == "eagle3" else config.target_layer_ids
    return [inner.layers[place] for place in sorted(set(places))]
