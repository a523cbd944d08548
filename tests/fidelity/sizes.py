"""What makes models tiny, by the names that configs have for it."""

from __future__ import annotations

from typing import Any

from tiny import VOCABULARY

WINDOW = 48
BASE, LOCAL_BASE = 31_337.0, 7_000.0
"""Of rotary positions: nobody's defaults."""

TYPES = """
    afmoe apertus bailing_hybrid bitnet cohere cohere2 cohere2_moe dbrx deepseek_v2 deepseek_v3 deepseek_v32
    deepseek_v4 dots1 ernie4_5 ernie4_5_moe exaone exaone4 exaone_moe falcon_h1 falcon_mamba flint gemma gemma2
    gemma3_text gemma3n_text gemma4_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode gpt_neox
    gpt_oss gptj granite granitemoe granitemoehybrid helium hrm_text hunyuan_v1_dense hy_v4 internlm3 iquestcoder
    jamba kimi_linear kolibri1 laguna lfm2 lfm2_moe llama llama4_text longcat_flash mamba mamba2 mellum
    mimo_v2_flash minicpm3 minimax minimax_m2 ministral3 mistral mistral4 mixtral nanochat nemotron nemotron_h olmo
    olmo2 olmo3 olmo_hybrid olmoe phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe
    qwen3_next recurrent_gemma seed_oss smollm3 solar_open stablelm starcoder2
    """.split()  # noqa: SIM905 - a list would have a line for each
"""Those that both libraries have."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "intermediate_size": 96,
    "n_inner": 96,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_layers": 4,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "max_seq_len": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "state_size": 8,
    "mamba_d_ssm": 128,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
    "time_step_rank": 4,
    "mamba_dt_rank": 4,
    "lru_width": 64,
    "attention_window_size": WINDOW,
    "moe_k": 2,
    "sliding_window": WINDOW,
    "rotary_dim": 8,
}
"""Set where a config has them."""

FULL, SLIDING = "full_attention", "sliding_attention"
SAME_HEADS: dict[str, Any] = {"num_key_value_heads": 4}

OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {
        "layer_types": ["linear_attention", FULL] * 2,
        "layer_group_size": 2,
        "mlp_layer_types": ["dense", *["sparse"] * 3],
        "num_expert_group": 1,
        "num_key_value_heads": 4,
    },
    "dbrx": {
        "max_seq_len": 512,
        "attn_config": {"kv_n_heads": 2, "rope_theta": BASE, "clip_qkv": 8},
        "rope_parameters": {"rope_theta": BASE, "rope_type": "default"},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
    "deepseek_v2": {**SAME_HEADS, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": SAME_HEADS,
    "deepseek_v32": SAME_HEADS,
    "deepseek_v4": {
        "num_key_value_heads": 1,
        "layer_types": [SLIDING, "heavily_compressed_attention", "compressed_sparse_attention", SLIDING],
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
        "head_dim": 32,
        "partial_rotary_factor": 0.5,
        "o_groups": 2,
        "o_lora_rank": 16,
        "index_n_heads": 4,
        "index_head_dim": 16,
        "index_topk": 8,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128},
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "falcon_h1": {"head_dim": 16},
    "gemma3_text": {"num_hidden_layers": 6},
    "gemma3n_text": {
        "num_hidden_layers": 6,
        "layer_types": [SLIDING, SLIDING, SLIDING, FULL, SLIDING, FULL],
        "num_kv_shared_layers": 2,
        "intermediate_size": 96,
        "laurel_rank": 8,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": VOCABULARY,
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {
        "layer_types": [SLIDING, FULL] * 2,
        "global_head_dim": 32,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": VOCABULARY,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
    "glm4_moe_lite": SAME_HEADS,
    "glm_moe_dsa": SAME_HEADS,
    "gpt_neox": {"intermediate_size": 256},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "laguna": {
        "layer_types": [FULL, SLIDING, SLIDING, FULL],
        "mlp_layer_types": ["dense", *["sparse"] * 3],
        "num_attention_heads_per_layer": [4] * 4,
    },
    "longcat_flash": {**SAME_HEADS, "num_layers": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "mellum": {"layer_types": [FULL, SLIDING, SLIDING, FULL], "mlp_layer_types": ["sparse"] * 4},
    "mimo_v2_flash": {
        "layer_types": [FULL, SLIDING, SLIDING, FULL],
        "mlp_layer_types": ["dense", *["sparse"] * 3],
    },
    "minicpm3": SAME_HEADS,
    "mistral4": {**SAME_HEADS, "head_dim": 32},
    "mixtral": {"head_dim": 16},
    "minimax": {"head_dim": 16},
    "minimax_m2": {"partial_rotary_factor": 0.5},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "recurrent_gemma": {"num_key_value_heads": 1},
}
"""What single types need beside."""
