"""The Diffusers style folder of the model: Z-Image's components, their configurations, a tokenizer and weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_vlm.models.z_image.config import ZImageTextEncoderConfig, ZImageTransformerConfig, ZImageVAEConfig
from mlx_vlm.models.z_image.text_encoder import ZImageTextEncoder
from mlx_vlm.models.z_image.transformer import ZImageTransformer
from mlx_vlm.models.z_image.vae import ZImageVAE
from shapes.draw import SIZE
from shapes.folder import make_tokenizer

TURBO_SHIFT = 3.0
"""The noise schedule's shift of the variant that draws in few steps and knows no guidance."""

TEXT_ENCODER: dict[str, Any] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3Model"],
    "vocab_size": 512,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "intermediate_size": 192,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
TRANSFORMER: dict[str, Any] = {
    "_class_name": "ZImageTransformer2DModel",
    "dim": 128,
    "n_heads": 4,
    "n_kv_heads": 4,
    "intermediate_size": 320,
    "in_channels": 16,
    "cap_feat_dim": TEXT_ENCODER["hidden_size"],
    "n_layers": 3,
    "n_refiner_layers": 1,
    "all_patch_size": [2],
    "all_f_patch_size": [1],
    "axes_dims": [8, 12, 12],
    "rope_theta": 256.0,
    "norm_eps": 1e-5,
    "t_scale": 1000.0,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 0,
    "sample_size": SIZE,
}
INDEX = {
    "_class_name": "ZImagePipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Parts:
    """The three networks; `latent_mean` and `latent_std` are of the autoencoder's values over many pictures."""

    text_encoder: ZImageTextEncoder
    transformer: ZImageTransformer
    vae: ZImageVAE
    latent_mean: float = 0.0
    latent_std: float = 1.0

    def measured(self, latents: mx.array) -> Parts:
        """With the mean and the deviation of these latents."""
        return replace(self, latent_mean=mx.mean(latents).item(), latent_std=mx.std(latents).item())

    def normal(self, latents: mx.array) -> mx.array:
        """Latents with mean 0 and variance 1, as the transformer works on them."""
        return (latents - self.latent_mean) / self.latent_std

    @property
    def parameters(self) -> int:
        networks = (self.text_encoder, self.transformer, self.vae)
        return sum(array.size for network in networks for _, array in tree_flatten(network.parameters()))


def make_parts(seed: int) -> Parts:
    """The networks with random weights."""
    mx.random.seed(seed)
    return Parts(
        ZImageTextEncoder(ZImageTextEncoderConfig.from_dict(TEXT_ENCODER)),
        ZImageTransformer(ZImageTransformerConfig.from_dict(TRANSFORMER)),
        ZImageVAE(ZImageVAEConfig.from_dict(VAE)),
    )


def write_folder(folder: Path, parts: Parts, shift: float = TURBO_SHIFT) -> None:
    """Write all that mlx-vlm's loader and Diffusers' layout want; weights as float16."""
    scaling = {"scaling_factor": 1 / parts.latent_std, "shift_factor": parts.latent_mean}
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": INDEX["scheduler"][1], "shift": shift})
    write_part(folder / "text_encoder", "model", TEXT_ENCODER, text_encoder_weights(parts.text_encoder))
    diffusion = "diffusion_pytorch_model"
    write_part(folder / "transformer", diffusion, TRANSFORMER, transformer_weights(parts.transformer))
    write_part(folder / "vae", diffusion, {**VAE, **scaling}, vae_weights(parts.vae))
    write_tokenizer(folder / "tokenizer")


def write_part(folder: Path, name: str, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Write one network."""
    write_json(folder / "config.json", config)
    halves = {key: array.astype(mx.float16) for key, array in weights.items()}
    mx.save_safetensors(str(folder / f"{name}.safetensors"), halves, {"format": "pt"})


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write one JSON file, in a folder that is made if need be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of the model that sees shapes, with a template of one message."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": TEXT_ENCODER["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", config)
    make_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)


def text_encoder_weights(network: nn.Module) -> dict[str, mx.array]:
    """Weights by the names that transformers gives them."""
    return {f"model.{name}": array for name, array in tree_flatten(network.parameters())}


def transformer_weights(network: nn.Module) -> dict[str, mx.array]:
    """Weights by the names that Diffusers gives them: what depends on the patches' size has it in its name."""
    names = {
        "x_embedder.": "all_x_embedder.2-1.",
        "final_layer.adaLN_modulation.0.": "all_final_layer.2-1.adaLN_modulation.1.",
        "final_layer.": "all_final_layer.2-1.",
        "t_embedder.linear1.": "t_embedder.mlp.0.",
        "t_embedder.linear2.": "t_embedder.mlp.2.",
    }
    return {renamed(name, names): array for name, array in tree_flatten(network.parameters())}


def renamed(name: str, names: dict[str, str]) -> str:
    """A name with its beginning replaced by the first that fits."""
    for ours, theirs in names.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def vae_weights(network: nn.Module) -> dict[str, mx.array]:
    """Weights as Diffusers has them: kernels are (out, in, rows, columns)."""
    return {
        name.replace(".to_out.", ".to_out.0."): array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
        for name, array in tree_flatten(network.parameters())
    }
