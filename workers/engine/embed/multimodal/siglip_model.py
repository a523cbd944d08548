"""SigLIP's two towers (https://arxiv.org/abs/2303.15343). mlx-vlm has the one for texts, and blocks for the other."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_vlm.models.siglip.config import ModelConfig, TextConfig, VisionConfig
from mlx_vlm.models.siglip.siglip import MLP, Encoder, SiglipTextModel

HEAD = "vision_model.head.attention."


class PatchEmbeddings(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Patches of a picture, with a vector for each place."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, count = config.patch_size, (config.image_size // config.patch_size) ** 2
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, size, stride=size)
        self.position_embedding = nn.Embedding(count, config.hidden_size)

    def __call__(self, pixels: mx.array) -> mx.array:
        """Pixels [B, H, W, C] to patch embeddings [B, N, D], both in the weights' dtype."""
        patches: mx.array = self.patch_embedding(pixels).flatten(1, 2)
        places: mx.array = self.position_embedding.weight
        return patches + places


class PoolingHead(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Asks all patches one learned question."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.probe = mx.zeros((1, 1, config.hidden_size))
        self.attention = nn.MultiHeadAttention(config.hidden_size, config.num_attention_heads, bias=True)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def __call__(self, patches: mx.array) -> mx.array:
        """Patches [B, N, D] to vectors [B, D], same dtype."""
        probe = mx.broadcast_to(self.probe, (patches.shape[0], *self.probe.shape[1:]))
        answer: mx.array = self.attention(probe, patches, patches)
        vectors: mx.array = answer + self.mlp(self.layernorm(answer))
        return vectors[:, 0]


class VisionTower(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Pictures to vectors."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = PoolingHead(config)

    def __call__(self, pixels: mx.array) -> mx.array:
        """Pixels [B, H, W, C] to vectors [B, D], both in the weights' dtype."""
        return self.head(self.post_layernorm(self.encoder(self.embeddings(pixels))))


class SiglipModel(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Both towers; their vectors are not normalised."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        text, vision = TextConfig.from_dict(config["text_config"]), VisionConfig.from_dict(config["vision_config"])
        self.config = ModelConfig(text, vision)
        self.text_length = text.max_position_embeddings
        self.patches = (vision.image_size // vision.patch_size) ** 2
        self.text_model = SiglipTextModel(text)
        self.vision_model = VisionTower(vision)

    def texts(self, ids: mx.array) -> mx.array:
        """Token ids int32 [B, text_length] to vectors [B, D] in the weights' dtype."""
        vectors: mx.array = self.text_model(ids)
        return vectors

    def pictures(self, pixels: mx.array) -> mx.array:
        """Pixels [B, H, W, C] of any float dtype to vectors [B, D] in the weights' dtype."""
        return self.vision_model(pixels.astype(self.vision_model.post_layernorm.weight.dtype))

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Weights under these modules' names, from those of Transformers or of MLX's converters."""
        own: dict[str, mx.array] = {}
        for name, array in weights.items():
            if name.startswith("logit_") or "position_ids" in name:
                continue
            name = name.replace("vision_model.vision_model.", "vision_model.").replace("in_proj_", "in_proj.")
            if name.startswith("text_model.") and not name.startswith("text_model.text_model."):
                name = f"text_model.{name}"
            if name.startswith(f"{HEAD}in_proj."):
                own |= split_projection(name.rpartition(".")[2], array)
            elif name.endswith("patch_embedding.weight"):
                own[name] = channels_last(array)
            else:
                own[name] = array
        return own


def split_projection(kind: str, array: mx.array) -> dict[str, mx.array]:
    """PyTorch's joint weight [3 * D, D] or bias [3 * D] as three, for queries, keys and values."""
    parts = zip(("query", "key", "value"), mx.split(array, 3), strict=True)
    return {f"{HEAD}{part}_proj.{kind}": some for part, some in parts}


def channels_last(kernel: mx.array) -> mx.array:
    """A square patch's kernel in MLX's order [D, H, W, C], from that or from PyTorch's [D, C, H, W]."""
    return kernel if kernel.shape[1] == kernel.shape[2] else kernel.transpose(0, 2, 3, 1)
