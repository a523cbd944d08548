"""What the tiny configs of models that see are made of, as transformers has them."""

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
MLA: dict[str, Any] = {
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
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
