"""Keys of configs that change no answer, or that this server and the readers of tokenizers look at themselves."""

READ_HERE = frozenset(
    """
    architectures auto_map bos_token_id dtype eos_token_id layer_types max_position_embeddings max_window_layers
    model_max_length model_type pad_token_id quantization quantization_config rope_parameters rope_scaling rope_theta
    rope_local_base_freq sliding_window sliding_window_pattern text_config tie_word_embeddings torch_dtype
    use_sliding_window
    """.split()  # noqa: SIM905 - a list would have a line for each
)
"""Beside the library: tokens, positions and windows, and how weights are stored."""

HARMLESS = frozenset(
    """
    attention_softmax_in_fp32 attn_implementation decoder_start_token_id embed_dim expand head_dim hidden_size
    id2label in_chans indexer_types initializer_factor intermediate_size is_llama_config label2id language
    max_image_size max_length max_new_tokens mlp_layer_types mlp_ratio moe_layers neftune_noise_alpha
    num_attention_heads num_hidden_layers num_key_value_heads num_local_experts num_logits_to_keep
    output_router_logits per_layer_config perceiver_config pixel_shuffle_factor pretraining_tp problem_type
    qk_head_dim reorder_and_upcast_attn residual_in_fp32 return_dict rope_interleave scale_attention_softmax_in_fp32
    sep_token_id spatial_patch_size task_specific_params temperature top_k top_p transformers_version
    use_associative_scan use_base_siglip use_cache use_mamba_kernels vocab_size
    """.split()  # noqa: SIM905
)
"""Training, what transformers computes with, and sizes: weights of other sizes are refused, whatever a key says."""

HARMLESS_PARTS = (
    "_name_or_path",
    "_token_id",
    "_token_index",
    "aux_loss",
    "chunk_size",
    "dropout",
    "gradient",
    "init_",
    "_init",
    "initializer",
    "kernel_impl",
    "loss_coef",
    "mtp",
    "nextn",
    "pdrop",
    "summary_",
    "time_step",
    "unsloth",
    "z_loss",
)
"""Parts of names, for the rest of the kind."""
