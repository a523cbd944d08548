"""The model's own layers run over whole batches of pictures of one size, several times faster than mlx-vlm's way.

mlx-vlm takes pictures of any sizes one by one and sorts their features into each row's tokens on the host. Here all
pictures have the same grid, so that the vision tower sees them as one batch.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_vlm.models import qwen3_vl
from mlx_vlm.models.qwen3_vl.vision import VisionModel, apply_rotary_pos_emb_vision
from shapes.batches import Batch
from shapes.folder import GRID


def loss(model: qwen3_vl.Model, batch: Batch) -> mx.array:
    """Mean cross entropy of the answers' tokens, in nats."""
    rows, columns = np.nonzero(batch.asked)
    hidden = last_hidden(model, batch)[mx.array(rows), mx.array(columns)]
    answers = mx.array(batch.tokens[rows, columns + 1])
    return nn.losses.cross_entropy(model.language_model.model.embed_tokens.as_linear(hidden), answers, reduction="mean")


def last_hidden(model: qwen3_vl.Model, batch: Batch) -> mx.array:
    """What the language model makes of each token, (B, L, width): the logits before their last step."""
    language = model.language_model.model
    tokens, positions = mx.array(batch.tokens), mx.array(batch.positions)
    features, deep = see(model.vision_tower, mx.array(batch.patches))
    is_picture = tokens == model.config.image_token_id
    # Row 0 stands for a text token, the others are the pictures' features in order.
    source = mx.where(is_picture, mx.cumsum(is_picture.flatten().astype(mx.int32)).reshape(tokens.shape), 0)
    hidden = mx.where(is_picture[..., None], with_zeros(features)[source], language.embed_tokens(tokens))
    rotary = language.layers[0].self_attn.rotary_emb(hidden, positions)
    for index, layer in enumerate(language.layers):
        hidden = layer(hidden, "causal", None, positions, rotary)
        if index < len(deep):
            hidden = hidden + with_zeros(deep[index])[source]
    return language.norm(hidden)


def with_zeros(features: mx.array) -> mx.array:
    """The features after a row of zeros."""
    return mx.concatenate([mx.zeros((1, features.shape[-1])), features])


def see(tower: VisionModel, patches: mx.array) -> tuple[mx.array, list[mx.array]]:
    """Features of pictures (P, patches, values): merged ones for the language model, and its deep stack's."""
    count = patches.shape[0]
    grid = mx.array([[1, GRID, GRID]])
    # A patch is (channel, frame, row, column), the kernel (out, frame, row, column, channel).
    kernel = tower.patch_embed.proj.weight.transpose(0, 4, 1, 2, 3).flatten(1)
    hidden = patches @ kernel.T + tower.patch_embed.proj.bias + tower.fast_pos_embed_interpolate(grid)
    rotary = tower.rot_pos_emb(grid)
    deep = []
    for index, block in enumerate(tower.blocks):
        hidden = hidden + attend(block.attn, block.norm1(hidden), rotary)
        hidden = hidden + block.mlp.linear_fc2(gelu(block.mlp.linear_fc1(block.norm2(hidden))))
        if index in tower.deepstack_visual_indexes:
            merger = tower.deepstack_merger_list[tower.deepstack_visual_indexes.index(index)]
            deep.append(merger(hidden.reshape(count * GRID * GRID, -1)))
    return tower.merger(hidden.reshape(count * GRID * GRID, -1)), deep


def gelu(x: mx.array) -> mx.array:
    """The tower's approximate GELU without its power, which a CPU computes slowly."""
    return 0.5 * x * (1 + mx.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def attend(attention: nn.Module, hidden: mx.array, rotary: mx.array) -> mx.array:
    """Self-attention within each picture of (P, patches, width)."""
    count, length, width = hidden.shape
    qkv = attention.qkv(hidden).reshape(count, length, 3, attention.num_heads, -1)
    queries, keys, values = (qkv[:, :, index] for index in range(3))
    queries, keys = (apply_rotary_pos_emb_vision(part, rotary).transpose(0, 2, 1, 3) for part in (queries, keys))
    seen = mx.fast.scaled_dot_product_attention(
        queries, keys, values.transpose(0, 2, 1, 3), scale=attention.scale, mask=None
    )
    return attention.proj(seen.transpose(0, 2, 1, 3).reshape(count, length, width))
