"""Models to which a picture is rows of patches with a grid."""

from __future__ import annotations

from fidelity.families.parts import GRID, IDS, LINEAR, MOE, TEXT, TOWER, Family, grid, mrope
from fidelity.sight import END, START

GRIDS: dict[str, Family] = {
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
}
