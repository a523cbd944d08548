"""Models to which a picture is rows of patches with a grid."""

from __future__ import annotations

from fidelity.families.parts import GRID, IDS, LINEAR, MLA, MOE, TEXT, TOWER, Family, grid, mrope
from fidelity.sight import END, PICTURE, START

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
    "glm5_next": grid(
        {
            "text_config": {
                **TEXT,
                **MOE,
                **MLA,
                "model_type": "glm5_next_text",
                "num_key_value_heads": 4,
                "qk_rope_head_dim": 0,
                "head_dim": 0,
                "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
                "layer_types": ["linear_attention", "linear_attention", "linear_attention", "indexed_attention"],
                "indexer_types": ["full"] * 4,
                "linear_head_dim": 16,
                "linear_num_heads": 4,
                "index_n_heads": 2,
                "index_head_dim": 16,
            },
            "vision_config": {**GRID, "image_size": 32, "projection_intermediate_size": 64},
            "image_start_token_id": START,
            "image_end_token_id": END,
            "video_start_token_id": 7,
            "video_end_token_id": 8,
        }
    ),
    "cohere_compass": grid(
        {
            "text_config": {
                **TEXT,
                "model_type": "cohere_compass_text",
                "sliding_window": 48,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "rope_parameters": {
                    "sliding_attention": mrope(2, 3, 3)["rope_parameters"],
                    "full_attention": mrope(2, 3, 3, theta=20_000.0)["rope_parameters"],
                },
            },
            "vision_config": {**GRID, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        }
    ),
    "muse_glimmer": grid(
        {
            "text_config": {**TEXT, "model_type": "muse_glimmer_text", "sliding_window": 48},
            "vision_config": {
                **TOWER,
                "model_type": "muse_glimmer_vision",
                "pos_emb_height": 8,
                "pos_emb_width": 8,
                "max_position_embeddings": 64,
                "layer_types": ["window_attention", "full_attention"],
            },
            "out_hidden_size": 128,
            "projector_hidden_size": 64,
        }
    ),
    "minimax_m3_vl": grid(
        {
            "image_token_index": PICTURE,
            "video_token_index": 6,
            "text_config": {
                **TEXT,
                "model_type": "minimax_m3_vl_text",
                "intermediate_size": 32,
                "dense_intermediate_size": 96,
                "shared_intermediate_size": 32,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
                "layer_types": ["full_attention"] * 4,
                "rotary_dim": 8,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
            },
            "vision_config": {**TOWER, "model_type": "minimax_m3_vl_vision"},
            "projector_hidden_size": 64,
            "merged_hidden_size": 256,
        }
    ),
    "kimi_k25": Family(
        {
            **IDS,
            "tie_word_embeddings": False,
            "text_config": {**TEXT, **MOE, **MLA, "model_type": "deepseek_v3", "num_key_value_heads": 4},
            "vision_config": {**TOWER, "model_type": "kimi_k25_vision", "pos_emb_height": 8, "pos_emb_width": 8},
            "projection_hidden_size": 32,
        },
        6,
        {"pixel_values": {"shape": [24, 3, 8, 8]}, "image_grid_thw": [[1, 4, 6]]},
    ),
    "hunyuan_vl": Family(
        {
            **IDS,
            "im_start_id": START,
            "im_end_id": END,
            "im_newline_id": 7,
            "text_config": {**TEXT, "model_type": "hunyuan_vl_text", **mrope(2, 2, 2, 2)},
            "vision_config": {
                **TOWER,
                "model_type": "hunyuan_vl_vision",
                "num_key_value_heads": 4,
                "text_hidden_size": 64,
                "out_hidden_size": 64,
                "max_image_size": 64,
                "img_max_token_num": 64,
            },
        },
        10,
        {"pixel_values": {"shape": [24, 192]}, "image_grid_thw": [[1, 4, 6]]},
    ),
}
