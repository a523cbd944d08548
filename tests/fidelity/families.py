"""Tiny configs of models that see, as transformers has them, and what a picture is to each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fidelity.sight import END, PICTURE, START
from fidelity.tiny import VOCABULARY

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MOE: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
}
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
GRID: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
}
IDS: dict[str, Any] = {
    "image_token_id": PICTURE,
    "video_token_id": 6,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
INDEX: dict[str, Any] = {"image_token_index": PICTURE, "image_token_id": PICTURE}


@dataclass(frozen=True)
class Family:
    """`tokens`: how many stand for a picture. `given`: the arrays beside, as `sight.arrays` reads them."""

    config: dict[str, Any]
    tokens: int
    given: dict[str, Any]
    round_it: tuple[list[int], list[int]] = field(default=([START], [END]))

    @property
    def picture(self) -> list[int]:
        """The ids in a prompt."""
        before, after = self.round_it
        return [*before, *[PICTURE] * self.tokens, *after]


def grid(config: dict[str, Any], patch: int = 8, channels: int = 3 * 2) -> Family:
    """A picture is rows of patches with a grid, four of which become one token."""
    given = {"pixel_values": {"shape": [24, channels * patch * patch]}, "image_grid_thw": [[1, 4, 6]]}
    return Family({**IDS, **config}, 6, given)


def square(config: dict[str, Any], tokens: int, shape: tuple[int, ...] = (1, 3, 32, 32), **given: Any) -> Family:
    """A picture of one size."""
    return Family({**INDEX, **config}, tokens, {"pixel_values": {"shape": list(shape)}, **given})


def mrope(*section: int, theta: float = 10_000.0, **more: Any) -> dict[str, Any]:
    """Threefold positions."""
    parameters = {"rope_type": "default", "mrope_section": list(section), "rope_theta": theta, **more}
    return {"rope_parameters": parameters}


LLAMA = {**TEXT, "model_type": "llama"}
CLIP = {**TOWER, "model_type": "clip_vision_model"}
SIGLIP = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
SIGLIP2 = {**TOWER, "model_type": "siglip2_vision_model", "num_patches": 16, "vision_use_head": False}
GEMMA3 = {
    **TEXT,
    "model_type": "gemma3_text",
    "sliding_window": 48,
    "query_pre_attn_scalar": 16,
    "num_hidden_layers": 6,
}
GEMMA4 = {
    **TEXT,
    "model_type": "gemma4_text",
    "sliding_window": 48,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "global_head_dim": 32,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": VOCABULARY,
}


def gemma4(**more: Any) -> Family:
    """Gemma 4 that sees, with `more` in its config."""
    tower = {**TOWER, "model_type": "gemma4_vision", "num_key_value_heads": 4, "head_dim": 8}
    config = {
        "vision_config": {**tower, "pooling_kernel_size": 2, "position_embedding_size": 64},
        "audio_config": None,
        "video_token_id": 6,
    }
    places = [[[place % 4, place // 4] for place in range(16)]]
    return square({**config, **more}, 4, (1, 16, 192), image_position_ids=places)


PIXTRAL = {**TOWER, "model_type": "pixtral", "head_dim": 8, "image_size": 64, "hidden_act": "silu"}
IDEFICS = {"pixel_attention_mask": [[[[1] * 32] * 32]]}

FAMILIES: dict[str, Family] = {
    "qwen2_vl": grid(
        {
            "text_config": {**TEXT, "model_type": "qwen2_vl_text", **mrope(2, 3, 3)},
            "vision_config": {**GRID, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2},
        }
    ),
    "qwen2_5_vl": grid(
        {
            "text_config": {**TEXT, "model_type": "qwen2_5_vl_text", **mrope(2, 3, 3)},
            "vision_config": {**GRID, "window_size": 32, "fullatt_block_indexes": [1]},
        }
    ),
    "qwen3_vl": grid(
        {
            "text_config": {**TEXT, "model_type": "qwen3_vl_text", **mrope(2, 3, 3)},
            "vision_config": {**GRID, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        }
    ),
    "qwen3_vl_moe": grid(
        {
            "text_config": {**TEXT, **MOE, "model_type": "qwen3_vl_moe_text", **mrope(2, 3, 3)},
            "vision_config": {**GRID, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        }
    ),
    "qwen3_5": grid(
        {
            "text_config": {
                **TEXT,
                **LINEAR,
                "model_type": "qwen3_5_text",
                **mrope(1, 1, 0, partial_rotary_factor=0.25),
            },
            "vision_config": {**GRID, "num_position_embeddings": 64},
        }
    ),
    "qwen3_5_moe": grid(
        {
            "text_config": {
                **TEXT,
                **LINEAR,
                **MOE,
                "model_type": "qwen3_5_moe_text",
                **mrope(1, 1, 0, partial_rotary_factor=0.25),
            },
            "vision_config": {**GRID, "num_position_embeddings": 64},
        }
    ),
    "glm4v": grid(
        {
            "text_config": {**TEXT, "model_type": "glm4v_text", **mrope(1, 1, 2, partial_rotary_factor=0.5)},
            "vision_config": {**GRID, "image_size": 32, "attention_bias": False},
            "image_start_token_id": START,
            "image_end_token_id": END,
        }
    ),
    "glm4v_moe": grid(
        {
            "text_config": {**TEXT, **MOE, "model_type": "glm4v_moe_text", **mrope(1, 1, 2, partial_rotary_factor=0.5)},
            "vision_config": {**GRID, "image_size": 32, "attention_bias": False},
            "image_start_token_id": START,
            "image_end_token_id": END,
        }
    ),
    "glm_ocr": grid(
        {
            "text_config": {**TEXT, "model_type": "glm_ocr_text", **mrope(2, 3, 3)},
            "vision_config": {**GRID, "image_size": 32, "attention_bias": False},
            "image_start_token_id": START,
            "image_end_token_id": END,
        }
    ),
    "paddleocr_vl": Family(
        {
            **IDS,
            # mlx-vlm's class joins pictures to texts of this width alone.
            "text_config": {**TEXT, "hidden_size": 1024, "model_type": "paddleocr_vl_text", **mrope(2, 3, 3)},
            "vision_config": {**TOWER, "model_type": "paddleocr_vl_vision", "spatial_merge_size": 2},
        },
        6,
        {"pixel_values": {"shape": [24, 3, 8, 8]}, "image_grid_thw": [[1, 4, 6]]},
    ),
    "gemma3": square(
        {"text_config": GEMMA3, "vision_config": SIGLIP, "mm_tokens_per_image": 4, "boi_token_index": START}
        | {"eoi_token_index": END},
        4,
    ),
    "gemma4": gemma4(text_config=GEMMA4),
    "gemma4_both_ways": gemma4(model_type="gemma4", text_config={**GEMMA4, "use_bidirectional_attention": "vision"}),
    "paligemma": square(
        {
            "text_config": {**TEXT, "model_type": "gemma", "num_image_tokens": 16},
            "vision_config": {**SIGLIP, "projection_dim": 64},
            "projection_dim": 64,
            "hidden_size": 64,
        },
        16,
    ),
    "llava": square({"text_config": LLAMA, "vision_config": CLIP, "image_seq_length": 16}, 16),
    "llava_next": square(
        {"text_config": LLAMA, "vision_config": CLIP, "image_grid_pinpoints": [[32, 32], [32, 64], [64, 32]]},
        16 + 16 * 2 + 4,
        (1, 3, 3, 32, 32),
        image_sizes=[[32, 64]],
    ),
    "llava_onevision": square(
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": SIGLIP,
            "image_grid_pinpoints": [[32, 32], [32, 64], [64, 32]],
        },
        16 + 16 * 2 + 4,
        (1, 3, 3, 32, 32),
        image_sizes=[[32, 64]],
    ),
    "aya_vision": square(
        {"text_config": {**TEXT, "model_type": "cohere2", "sliding_window": 48}, "vision_config": SIGLIP}
        | {"downsample_factor": 2, "adapter_layer_norm_eps": 1e-6, "alignment_intermediate_size": 64},
        4,
    ),
    "internvl": square(
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": {**TOWER, "model_type": "internvl_vision", "image_size": [32, 32], "patch_size": [8, 8]},
            "downsample_ratio": 0.5,
        },
        4,
    ),
    "idefics2": square(
        {
            "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None},
            "vision_config": {**TOWER, "model_type": "idefics2_vision"},
            "perceiver_config": {
                "model_type": "idefics2_perceiver",
                "hidden_size": 64,
                "resampler_n_latents": 4,
                "resampler_depth": 2,
                "resampler_n_heads": 4,
                "resampler_head_dim": 16,
                "num_key_value_heads": 2,
            },
        },
        4,
        (1, 1, 3, 32, 32),
        **IDEFICS,
    ),
    "idefics3": square(
        {
            "text_config": LLAMA,
            "vision_config": {**TOWER, "model_type": "idefics3_vision"},
            "scale_factor": 2,
            "tie_word_embeddings": False,
        },
        4,
        (1, 1, 3, 32, 32),
        **IDEFICS,
    ),
    "smolvlm": square(
        {
            "text_config": LLAMA,
            "vision_config": {**TOWER, "model_type": "smolvlm_vision"},
            "scale_factor": 2,
            "tie_word_embeddings": False,
        },
        4,
        (1, 1, 3, 32, 32),
        **IDEFICS,
    ),
    "mistral3": square(
        {
            "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None, "tie_word_embeddings": False},
            "tie_word_embeddings": False,
            "vision_config": PIXTRAL,
            "spatial_merge_size": 2,
            "vision_feature_layer": -1,
        },
        4,
        image_sizes=[[32, 32]],
    ),
    "pixtral": square(
        {
            "model_type": "llava",
            "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None},
            "vision_config": PIXTRAL,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
        16,
        image_sizes=[[32, 32]],
    ),
    "lfm2_vl": square(
        {
            "text_config": {
                **TEXT,
                "model_type": "lfm2",
                "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            },
            "vision_config": SIGLIP2,
            "downsample_factor": 2,
            "projector_hidden_size": 64,
        },
        4,
        (1, 16, 192),
        spatial_shapes=[[4, 4]],
        pixel_attention_mask=[[1] * 16],
    ),
    "mllama": square(
        {
            "text_config": {**TEXT, "model_type": "mllama_text_model", "cross_attention_layers": [1, 3]},
            "vision_config": {
                "model_type": "mllama_vision_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 4,
                "image_size": 32,
                "patch_size": 8,
                "vision_output_dim": 64,
                "max_num_tiles": 4,
                "intermediate_layers_indices": [0],
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
            },
        },
        1,
        (1, 1, 4, 3, 32, 32),
        aspect_ratio_ids=[[6]],
        aspect_ratio_mask=[[[1, 1, 1, 1]]],
    ),
}
"""By type; `pixtral` is a llava with another tower, as it is published."""
