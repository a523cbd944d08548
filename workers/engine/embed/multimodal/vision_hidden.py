"""The hidden states of models that see, of which embeddings of texts and pictures can be made."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.encoder_models import padded
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.vision.features import RememberingTower
from mlx_server.workers.engine.vision.prefill import begin
from mlx_server.workers.engine.vision.text_model import TextModel


def seeing_states(model: Any, tower: RememberingTower | None) -> HiddenStates | None:
    """What comes out of the last norm of a model's language part; None where it keeps that elsewhere.

    Texts are computed together, inputs with pictures one by one.
    """
    language_model, text_model = model.language_model, TextModel(model)
    if not callable(getattr(language_model, "model", None)):
        return None

    def texts(items: Several[Item]) -> tuple[mx.array, mx.array]:
        ids, mask, _ = padded(items)
        # A token sees only those before it, so padding on the right changes nothing.
        return overheard(language_model, lambda: text_model(ids)), mask

    def alone(item: Item) -> mx.array:
        if item.prepared is None:
            return texts([item])[0][0]
        if tower is not None:
            tower.counted(0)
            tower.tenant = item.tenant
        prefill = begin(model, list(item.ids), item.prepared)
        states = overheard(language_model, lambda: prefill.finish(model))
        mx.eval(states)
        if tower is not None:
            item.recognised.pictures = tower.counted(len(item.media))[1]
        return states[0]

    def hidden_states(items: Several[Item]) -> tuple[mx.array, mx.array]:
        if all(item.prepared is None for item in items):
            return texts(items)
        _, mask, _ = padded(items)
        rows = [alone(item) for item in items]
        return mx.stack([mx.pad(row, [(0, mask.shape[1] - row.shape[0]), (0, 0)]) for row in rows]), mask

    return hidden_states


class Ear:
    """Stands in a module's place and remembers what it gave."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.heard: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        self.heard = self._module(*args, **kwargs)
        return self.heard


def overheard(language_model: Any, call: Callable[[], Any]) -> mx.array:
    """The last hidden states [B, L, D] of a call of the language model, in its dtype. What they become is not computed.
    Raises ValueError if they have another shape.

    Models differ in what they give their inner part, and agree in that their output layer takes what it gives.
    """
    inner = language_model.model
    ear = language_model.model = Ear(inner)
    try:
        call()
    finally:
        language_model.model = inner
    if not isinstance(ear.heard, mx.array) or ear.heard.ndim != 3:
        raise ValueError("this model's hidden states are of no use")
    return ear.heard
