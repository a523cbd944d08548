"""Whisper's decoder for windows of different recordings together: prompts of different lengths, rows that leave.

mlx-audio's own keeps one position for the whole batch; the weights and the encoder are its model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

KeysAndValues = tuple[mx.array, mx.array]
"""Keys and values of a layer, [B, heads, T, d] each."""


class WhisperDecoder:
    """Decodes a batch of windows, one token for each row at a time."""

    def __init__(self, model: Any, features: mx.array, prompts: Sequence[Sequence[int]]) -> None:
        """`features` are the encoder's, [B, T, D]; `prompts` the tokens that each row begins with."""
        self._decoder = model.decoder
        self._heads = model.dims.n_text_head
        self._cross = [
            (self._split(block.cross_attn.key(features)), self._split(block.cross_attn.value(features)))
            for block in self._decoder.blocks
        ]
        self._own: list[KeysAndValues | None] = [None] * len(self._cross)
        width = max(map(len, prompts))
        self._pads = np.array([width - len(prompt) for prompt in prompts])
        self._length = 0
        tokens = np.array([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        self._prompt_states = self._forward(mx.array(tokens))

    def prompt_logits(self, places: Sequence[int]) -> mx.array:
        """What may come after one token of each row's prompt, counted from its end: logits [B, V], float32."""
        states = self._prompt_states
        at = [states.shape[1] - 1 - place for place in places]
        return self._logits(states[mx.arange(len(places)), mx.array(at)])

    def feed(self, tokens: Sequence[int]) -> mx.array:
        """Each row's next token, and what may come after it: logits [B, V], float32."""
        return self._logits(self._forward(mx.array(list(tokens))[:, None])[:, -1])

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        at = mx.array(list(rows))
        self._cross = [(keys[at], values[at]) for keys, values in self._cross]
        self._own = [None if own is None else (own[0][at], own[1][at]) for own in self._own]
        self._pads = self._pads[list(rows)]

    def _forward(self, tokens: mx.array) -> mx.array:
        """States [B, T, D] after these tokens [B, T]."""
        places = np.arange(self._length, self._length + tokens.shape[1])
        positions = mx.array(np.maximum(places[None] - self._pads[:, None], 0))
        decoder = self._decoder
        states = decoder.token_embedding(tokens) + decoder.positional_embedding[positions]
        mask = self._mask(places)
        for number, block in enumerate(decoder.blocks):
            states = states + self._attend_to_text(block, number, block.attn_ln(states), mask)
            states = states + self._attend_to_sound(block, number, block.cross_attn_ln(states))
            states = states + block.mlp2(nn.gelu(block.mlp1(block.mlp_ln(states))))
        self._length += tokens.shape[1]
        normed: mx.array = decoder.ln(states)
        return normed

    def _mask(self, places: np.ndarray[Any, Any]) -> mx.array | None:
        """Which earlier places each place sees, bool [B, 1, T, S]; None where all are seen."""
        if len(places) == 1 and not self._pads.any():
            return None
        keys = np.arange(places[-1] + 1)
        seen = (keys[None, None] <= places[None, :, None]) & (keys[None, None] >= self._pads[:, None, None])
        # A place of padding sees itself: a softmax over nothing is not a number.
        seen |= keys[None, None] == places[None, :, None]
        return mx.array(seen[:, None])

    def _attend_to_text(self, block: Any, number: int, states: mx.array, mask: mx.array | None) -> mx.array:
        attention = block.attn
        keys, values = self._split(attention.key(states)), self._split(attention.value(states))
        if (own := self._own[number]) is not None:
            keys, values = mx.concatenate([own[0], keys], axis=2), mx.concatenate([own[1], values], axis=2)
        self._own[number] = keys, values
        return self._attend(attention, states, keys, values, mask)

    def _attend_to_sound(self, block: Any, number: int, states: mx.array) -> mx.array:
        return self._attend(block.cross_attn, states, *self._cross[number], None)

    def _attend(
        self, attention: Any, states: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None
    ) -> mx.array:
        queries = self._split(attention.query(states))
        scale = queries.shape[-1] ** -0.5
        found = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
        joined: mx.array = attention.out(found.transpose(0, 2, 1, 3).reshape(states.shape))
        return joined

    def _split(self, states: mx.array) -> mx.array:
        """[B, T, D] as [B, heads, T, d]."""
        return states.reshape(*states.shape[:2], self._heads, -1).transpose(0, 2, 1, 3)

    def _logits(self, states: mx.array) -> mx.array:
        logits: mx.array = self._decoder.token_embedding.as_linear(states)
        return logits.astype(mx.float32)
