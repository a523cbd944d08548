"""How long a sequence a model allows: one rule, for models on disk and for loaded ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.encoder_types import MOST_TOKENS, model_type, padding_id
from mlx_server.workers.folders.model_files import read_json, visible

KEYS = (
    "max_position_embeddings",
    "max_sequence_length",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "n_ctx",
    "model_max_length",
)
"""What families call it; the first that is there counts."""

ORIGINAL = "original_max_position_embeddings"

LARGEST_REAL_LENGTH = 1 << 24
"""Tokenizers that say more mean that there is no limit."""


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the configuration that is about the language model, over what it leaves to the whole."""
    inner = config.get("text_config") or config.get("llm_config") or config.get("language_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is a positive integer."""
    return next((config[name] for name in names if type(config.get(name)) is int and config[name] > 0), None)


def context_length(config: Mapping[str, Any]) -> int | None:
    """Tokens that prompt and answer may have together; None where the configuration does not say."""
    text = text_config(config)
    length = number(text, *KEYS)
    if length is None:
        return None
    if model_type(config) == "xlm-roberta":
        # Its positions are counted from the padding token's id on.
        return length - padding_id(config) - 1
    return max(length, stretched(text))


def stretched(config: Mapping[str, Any]) -> int:
    """What YaRN makes of the length of the first training; 0 where that or its factor is not said.

    `max_position_embeddings` is the one or the other; with other kinds of scaling it is always the stretched length.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(rope, Mapping) and isinstance(rope.get("full_attention"), Mapping):
        rope = rope["full_attention"]
    if not isinstance(rope, Mapping) or (rope.get("rope_type") or rope.get("type")) != "yarn":
        return 0
    original = number(rope, ORIGINAL) or number(config, ORIGINAL)
    factor = rope.get("factor")
    return int(original * factor) if original is not None and isinstance(factor, int | float) else 0


def longest_input(folder: Path, config: Mapping[str, Any], *, encodes: bool) -> int | None:
    """The same of a model in a folder. `encodes`: it makes vectors or scores of what it is given, so what its tokenizer
    and sentence-transformers cut inputs to counts, too; of a model that writes text the tokenizer often says less than
    it can, and is asked only where nothing else tells. Raises NotAModel.
    """
    of_config, of_tokenizer = context_length(config), tokenizer_length(folder)
    if encodes:
        return shortest(of_config, of_tokenizer, sentence_length(folder), MOST_TOKENS.get(model_type(config)))
    return of_tokenizer if of_config is None else of_config


def tokenizer_length(folder: Path) -> int | None:
    """What tokenizer_config.json says, if that is a length: tokenizers without any say 10^30. Raises NotAModel."""
    if not (folder / "tokenizer_config.json").is_file():
        return None
    found = number(read_json(folder, "tokenizer_config.json"), "model_max_length")
    return found if found is not None and found < LARGEST_REAL_LENGTH else None


def sentence_length(folder: Path) -> int | None:
    """What sentence-transformers cuts texts to, if the folder says so. Raises NotAModel."""
    files = visible(folder.glob("sentence_*_config.json"))
    return number(read_json(folder, files[0].name), "max_seq_length") if files else None


def shortest(*lengths: int | None) -> int | None:
    """The length that counts; None where nothing limits."""
    return min((length for length in lengths if length is not None), default=None)
