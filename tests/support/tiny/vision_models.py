"""Tiny random models of several families that see, with the tokenizer of the one that knows shapes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from support.tiny.sight import SHAPES

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
"""How the tokenizer's template writes a picture."""

FILM = "<|vision_start|><|video_pad|><|vision_end|>"
IDS = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
GRID_VISION: dict[str, Any] = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 64,
    "num_heads": 4,
    "patch_size": 8,
    "mlp_ratio": 2,
    "in_channels": 3,
    "spatial_patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
PIXELS: dict[str, Any] = {
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
}

Family = tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]
"""The config, the image processor's, the processor's, and what stands for a picture in a prompt."""


def qwen2_vl() -> Family:
    """Pictures are rows of patches with a grid; three-fold positions."""
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = {**IDS, **TEXT, "rope_scaling": rope, "vision_config": {**GRID_VISION, "model_type": "qwen2_vl"}}
    pixels = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 8, "merge_size": 2}
    sizes = {"temporal_patch_size": 2, "min_pixels": 1024, "max_pixels": 4096}
    return config, pixels | sizes, {"processor_class": "Qwen2VLProcessor"}, PICTURE


def qwen3_5() -> Family:
    """The same with a recurrent state, which can't be cut short."""
    positions = {"type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    linear = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16}
    linear |= {"linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "full_attention_interval": 3}
    text = {**TEXT, **linear, "model_type": "qwen3_5", "head_dim": 16, "rope_parameters": positions}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_position_embeddings": 64}
    vision = {**GRID_VISION, **sizes, "model_type": "qwen3_5", "deepstack_visual_indexes": []}
    _, pixels, _, picture = qwen2_vl()
    return (
        {**IDS, "text_config": text, "vision_config": vision},
        pixels,
        {"processor_class": "Qwen3VLProcessor"},
        picture,
    )


def mistral3() -> Family:
    """Pictures of a request are padded to one size and encoded together; each is several runs of placeholders."""
    text = {**TEXT, "model_type": "mistral", "head_dim": 16}
    vision = {**VISION, "model_type": "pixtral", "head_dim": 8, "image_size": 64, "rope_theta": 10000.0}
    config = {"image_token_index": 5, "vocab_size": 512, "spatial_merge_size": 2, "vision_feature_layer": -1}
    config |= {"projector_hidden_act": "gelu", "text_config": text, "vision_config": vision}
    size = {"patch_size": {"height": 16, "width": 16}, "size": {"longest_edge": 64}}
    marks = {
        "image_token": "<|image_pad|>",
        "image_break_token": "<|vision_start|>",
        "image_end_token": "<|vision_end|>",
    }
    processor = {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2, **marks}
    return config, {"image_processor_type": "PixtralImageProcessor", **size}, processor, "<|image_pad|>"


def gemma3() -> Family:
    """Some layers look back a little way only."""
    text = {**TEXT, "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 16, "sliding_window_pattern": 3}
    text |= {"mm_tokens_per_image": 4, "query_pre_attn_scalar": 16}
    config = {"image_token_index": 5, "vocab_size": 512, "hidden_size": 64, "boi_token_index": 3, "eoi_token_index": 4}
    config |= {"mm_tokens_per_image": 4, "text_config": text}
    config["vision_config"] = {**VISION, "model_type": "siglip_vision_model"}
    pixels = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 32, "width": 32}}
    return config, pixels, {"processor_class": "Gemma3Processor", "image_seq_length": 4}, "<|vision_start|>"


def gemma4() -> Family:
    """It hears, too."""
    text = {**TEXT, "model_type": "gemma4_text", "head_dim": 16, "global_head_dim": 16, "sliding_window": 64}
    text |= {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "sliding_window_pattern": 3}
    text |= {"layer_types": ["full_attention"] * 3}
    text |= {"vocab_size": 520, "vocab_size_per_layer_input": 520, "tie_word_embeddings": True}
    vision = {**VISION, "model_type": "gemma4_vision", "num_key_value_heads": 4, "head_dim": 8, "global_head_dim": 8}
    del vision["image_size"]  # it takes pictures of any size
    vision |= {"pooling_kernel_size": 2, "position_embedding_size": 64, "default_output_length": 16}
    audio = {"model_type": "gemma4_audio", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    audio |= {"subsampling_conv_channels": [8, 4], "output_proj_dims": 32}
    config = {"image_token_id": 5, "audio_token_id": 6, "boi_token_id": 3, "eoi_token_id": 4, "vocab_size": 520}
    config |= {"boa_token_id": 3, "eoa_token_id": 4, "hidden_size": 64}
    config |= {"text_config": text, "vision_config": vision, "audio_config": audio}
    pixels = {"patch_size": 8, "max_soft_tokens": 70, "pooling_kernel_size": 2}
    processor = {"processor_class": "Gemma4Processor", "image_processor": pixels}
    return config, {"image_processor_type": "Gemma4ImageProcessor", **pixels}, processor, "<|image_pad|>"


FAMILIES = {"qwen2_vl": qwen2_vl, "qwen3_5": qwen3_5, "mistral3": mistral3, "gemma3": gemma3, "gemma4": gemma4}


def make_vision_model(folder: Path, name: str) -> Path:
    """Write a model of a family into a folder."""
    config, pixels, processor, picture = FAMILIES[name]()
    config = {"model_type": name, "eos_token_id": [2], **config}
    tokenizer = json.loads((SHAPES / "tokenizer_config.json").read_text())
    tokenizer["chat_template"] = tokenizer["chat_template"].replace(PICTURE, picture)
    if name == "gemma3":
        marks = {"image_token": "<|image_pad|>", "boi_token": "<|vision_start|>", "eoi_token": "<|vision_end|>"}
        tokenizer |= {"bos_token": "<|im_start|>", **marks}
    if name == "gemma4":
        marks = {"image_token": "<|image_pad|>", "boi_token": "<|vision_start|>", "eoi_token": "<|vision_end|>"}
        marks |= {"audio_token": "<|video_pad|>", "boa_token": "<|vision_start|>", "eoa_token": "<|vision_end|>"}
        tokenizer |= {"bos_token": "<|im_start|>", **marks}
        template = tokenizer["chat_template"].replace("== 'video'", "== 'audio'")
        tokenizer["chat_template"] = template.replace(FILM, "<|video_pad|>")
    tokenizer["processor_class"] = processor["processor_class"]
    files = {
        "config.json": config,
        "preprocessor_config.json": {**PIXELS, **pixels},
        "processor_config.json": processor,
        "tokenizer_config.json": tokenizer,
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    for file in ("tokenizer.json", "video_preprocessor_config.json"):
        (folder / file).write_bytes((SHAPES / file).read_bytes())
    write_weights(folder / "model.safetensors", name, config)
    return folder


def write_weights(file: Path, name: str, config: dict[str, Any]) -> None:
    """Random ones, which make answers that differ."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.utils import update_module_configs

    family = importlib.import_module(f"mlx_vlm.models.{name}")
    parts = ["text", "vision", *(["audio"] if "audio_config" in config else [])]
    config = {"text_config": {}, **json.loads(json.dumps(config))}
    model = family.Model(
        update_module_configs(
            family.ModelConfig.from_dict(config),
            family,
            config,
            parts,
        )
    )
    mx.random.seed(0)
    weights = {
        key: mx.random.normal(value.shape) * (1.0 if "embed_tokens" in key else 0.15) if value.ndim > 1 else value
        for key, value in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(file), weights, {"format": "mlx"})
