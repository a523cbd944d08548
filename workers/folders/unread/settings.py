"""Which keys of generation_config.json and tokenizer_config.json nobody looks at, though they would change answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.model_files import NotAModel, read_json
from mlx_server.workers.folders.unread.keys import abridged, says_something

GENERATION = "generation_config.json"
TOKENIZER = "tokenizer_config.json"

GENERATION_READ = frozenset(
    "do_sample eos_token_id min_p repetition_penalty suppress_tokens temperature top_k top_p".split()  # noqa: SIM905
)
"""What answers are sampled by where a request does not say, and what ends them."""

GENERATION_CHANGES: Mapping[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "diversity_penalty": 0.0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "frequency_penalty": 0.0,
    "guidance_scale": 1.0,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "penalty_alpha": 0.0,
    "presence_penalty": 0.0,
    "sequence_bias": None,
    "stop_strings": None,
    "token_healing": False,
    "top_h": None,
    "typical_p": 1.0,
    "watermarking_config": None,
}
"""What would make other answers, and the values that do nothing."""

GENERATION_HARMLESS = frozenset(
    """
    bos_token_id cache_config cache_implementation compile_config constraints decoder_start_token_id disable_compile
    early_stopping force_words_ids forced_eos_token_id length_penalty low_memory max_cache_len max_length max_new_tokens
    max_time num_beam_groups num_return_sequences pad_token_id prefill_chunk_size remove_invalid_values
    renormalize_logits return_dict_in_generate transformers_version trust_remote_code use_cache use_mtp
    """.split()  # noqa: SIM905
)
"""Lengths, which are the client's or the operator's to set, what only a search with beams looks at, and how
transformers computes."""

GENERATION_HARMLESS_PARTS = (
    "assistant",
    "lookup",
    "matching_ngram",
    "output_",
    "speculation",
    "batching",
    "lookbehind",
)

TOKENIZER_ADDS = {"add_bos_token": "beginning", "add_eos_token": "end"}
"""Tokens that transformers 5 adds only if tokenizer.json does, whatever these say."""

TOKENIZER_HARMLESS = frozenset(
    """
    add_prefix_space added_tokens_decoder additional_special_tokens auto_map backend chat_control_tokens chat_template
    chat_template_type clean_up_tokenization_spaces
    device_map do_basic_tokenize do_lower_case errors extra_special_tokens files_loaded fix_mistral_regex from_slow
    init_inputs is_local language legacy local_files_only lowercase max_len max_length model_input_names
    model_max_length model_specific_special_tokens name_or_path never_split pad_to_multiple_of pad_token_type_id
    padding padding_side processor_class remove_space response_schema response_template return_token_type_ids
    revision sp_model_kwargs spaces_between_special_tokens special_tokens_map_file split_special_tokens stride
    strip_accents tokenize_chinese_chars tokenizer_class tokenizer_file tool_parser_type trim_offsets truncation
    truncation_side truncation_strategy trust_remote_code unk_id use_default_system_prompt use_fast verbose vocab_file
    merges_file vocab_size
    """.split()  # noqa: SIM905
)
"""Read by transformers or mlx-lm, or about how texts are split: those that tokenizer.json splits otherwise are told of
by themselves. Inputs are neither cut nor padded as a tokenizer would."""

TOKENIZER_NOTES = ("_", "gguf_")
"""How private notes begin, gguf2mlx's of what it has converted among them."""

TOKENIZER_HARMLESS_ENDS = ("_token", "_tokens", "_token_id", "_even_though_it_will_corrupt_output")
"""Special tokens of all kinds, and a key too long for a table."""


def unread_generation(folder: Path) -> dict[str, Any]:
    """The keys of generation_config.json that say something and are neither looked at nor known to be harmless, and
    their values. Raises NotAModel."""
    return {
        name: value
        for name, value in settings(folder, GENERATION).items()
        if says_something(value)
        and name not in GENERATION_READ | GENERATION_HARMLESS
        and not name.startswith("_")
        and not any(part in name for part in GENERATION_HARMLESS_PARTS)
        and value != GENERATION_CHANGES.get(name)
    }


def unread_tokenizer(folder: Path, encode: Callable[[str], Sequence[int]]) -> dict[str, Any]:
    """The same of tokenizer_config.json; `encode` makes tokens of a text, as it is read. Raises NotAModel."""
    found = settings(folder, TOKENIZER)
    unread = {
        name: value
        for name, value in found.items()
        if says_something(value)
        and name not in TOKENIZER_HARMLESS
        and name not in TOKENIZER_ADDS
        and not name.startswith(TOKENIZER_NOTES)
        and not name.endswith(TOKENIZER_HARMLESS_ENDS)
    }
    return unread | ignored_additions(found, encode)


def ignored_additions(found: Mapping[str, Any], encode: Callable[[str], Sequence[int]]) -> dict[str, Any]:
    """The tokens that are to be added to texts, and are not."""
    asked = [name for name in TOKENIZER_ADDS if found.get(name) is True]
    if not asked:
        return {}
    # What is added at a place is the same whatever the text is, and no text begins or ends with it by itself.
    one, other = list(encode("a")), list(encode("0"))
    same = {"add_bos_token": one[:1] == other[:1], "add_eos_token": one[-1:] == other[-1:]}
    return {name: True for name in asked if not same[name]}


def settings(folder: Path, file: str) -> dict[str, Any]:
    """What a file of settings says; nothing where there is none. Raises NotAModel."""
    return read_json(folder, file) if (folder / file).is_file() else {}


def generation_notes(folder: Path) -> list[str]:
    """What to say of generation_config.json when a model is loaded."""
    try:
        unread = unread_generation(folder)
    except NotAModel:
        return []  # told where its sampling is read
    found = {name: value for name, value in unread.items() if name in GENERATION_CHANGES}
    return [f"{GENERATION} asks for what this server does not do ({abridged(found)})"] if found else []


def tokenizer_notes(folder: Path, encode: Callable[[str], Sequence[int]]) -> list[str]:
    """What to say of tokenizer_config.json."""
    found = ignored_additions(settings(folder, TOKENIZER), encode)
    if not found:
        return []
    places = " or ".join(TOKENIZER_ADDS[name] for name in found)
    return [
        f"{TOKENIZER} has {abridged(found)}, but tokenizer.json adds no token at the {places} of a text,"
        " so none is added"
    ]
