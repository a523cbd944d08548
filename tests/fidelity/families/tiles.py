"""Models to which a picture is parts, or patches with a mask or its size."""

from __future__ import annotations

from fidelity.families.parts import CLIP, LLAMA, SIGLIP, TEXT, TOWER, Family, square

SIGLIP2 = {**TOWER, "model_type": "siglip2_vision_model", "num_patches": 16, "vision_use_head": False}
PIXTRAL = {**TOWER, "model_type": "pixtral", "head_dim": 8, "image_size": 64, "hidden_act": "silu"}
IDEFICS = {"pixel_attention_mask": [[[[1] * 32] * 32]]}

TILES: dict[str, Family] = {
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
