"""Models to which a picture is a square of one size."""

from __future__ import annotations

from typing import Any

from fidelity.families.parts import CLIP, LLAMA, SIGLIP, TEXT, TOWER, Family, square
from fidelity.sight import END, START
from fidelity.tiny import VOCABULARY

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


SQUARES: dict[str, Family] = {
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
    "cohere2_vision": square(
        {"text_config": {**TEXT, "model_type": "cohere2", "sliding_window": 48}, "vision_config": SIGLIP}
        | {"downsample_factor": 2, "alignment_intermediate_size": 64},
        4,
    ),
    "llama4": square(
        {
            "text_config": {
                **TEXT,
                "model_type": "llama4_text",
                "intermediate_size_mlp": 96,
                "num_local_experts": 4,
                "attention_chunk_size": 48,
                "floor_scale": 64,
            },
            "vision_config": {
                **TOWER,
                "model_type": "llama4_vision_model",
                "intermediate_size": 128,
                "vision_output_dim": 64,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
            },
            "boi_token_index": START,
            "eoi_token_index": END,
        },
        4,
    ),
}
