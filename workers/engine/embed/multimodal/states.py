"""Hidden states of models whose language part takes pictures among its tokens."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.encoder_models import padded
from mlx_server.workers.engine.embed.inputs.job import Item


def mixed_states(model: Any, padding: int, prepare: Callable[[], None] = lambda: None) -> HiddenStates:
    """Texts are computed together, inputs with pictures one by one. `prepare` is called before each pass."""

    def texts(items: Several[Item]) -> tuple[mx.array, mx.array]:
        prepare()
        ids, mask, _ = padded(items, padding)
        return model(ids, attention_mask=mask).last_hidden_state, mask

    def shown(item: Item) -> mx.array:
        prepare()
        states: mx.array = model(mx.array([item.ids]), **item.prepared.arrays).last_hidden_state[0]
        # What the pictures took is free before the next ones are looked at.
        mx.eval(states)
        return states

    def hidden_states(items: Several[Item]) -> tuple[mx.array, mx.array]:
        blind = [at for at, item in enumerate(items) if item.prepared is None]
        if len(blind) == len(items):
            return texts(items)
        rows = {at: shown(item) for at, item in enumerate(items) if item.prepared is not None}
        if blind:
            rows |= dict(zip(blind, texts([items[at] for at in blind])[0], strict=True))
        _, mask, _ = padded(items)
        length = mask.shape[1]
        return mx.stack([mx.pad(rows[at], [(0, length - len(rows[at])), (0, 0)]) for at in range(len(items))]), mask

    return hidden_states
