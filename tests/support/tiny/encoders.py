"""Tiny random models that embed or rerank, with tokenizers of words: real architectures, no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = (
    *("the", "a", "and", "in", "on", "of", "no", "yes", "big", "small", "red", "blue", "cat", "dog", "bird", "fish"),
    *("mat", "log", "house", "tree", "sat", "ran", "sees", "eats", "sleeps"),
)

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
DECODER: dict[str, Any] = {
    **COMMON,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "sliding_window": 64,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**COMMON, "type_vocab_size": 2, "hidden_act": "gelu", "pad_token_id": 1},
    "xlm-roberta": {**COMMON, "type_vocab_size": 1, "hidden_act": "gelu", "pad_token_id": 1},
    "modernbert": {**COMMON, "local_attention": 8, "hidden_activation": "gelu", "pad_token_id": 1},
    "qwen3": DECODER,
    "gemma3_text": {**DECODER, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2, "rope_local_base_freq": 1e4},
}
TEMPLATES = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "xlm-roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    "modernbert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"),
    "qwen3": ("$A [SEP]", "$A $B [SEP]"),
    "gemma3_text": ("[CLS] $A [SEP]", "[CLS] $A $B [SEP]"),
}
SPECIAL = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]


def make_encoder(folder: Path, kind: str, *, classifier: bool = False, seed: int = 0, **config: Any) -> Path:
    """Write a random model that embeds, or a classifier with one label; returns its folder."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlx_server.workers.engine.embed.encoder_models import import_architecture
    from mlx_server.workers.folders.encoder_types import ARCHITECTURES

    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = write_words(folder, *TEMPLATES[kind])
    whole = {"model_type": kind, "vocab_size": vocab_size, **CONFIGS[kind], **config}
    whole["architectures"] = ["ForSequenceClassification" if classifier else "Model"]
    (folder / "config.json").write_text(json.dumps(whole))
    module = import_architecture(ARCHITECTURES[kind].module)
    model = (module.SequenceClassificationModel if classifier else module.Model)(module.ModelConfig.from_dict(whole))
    mx.random.seed(seed)
    weights = {
        name: mx.random.normal(array.shape) * (0.3 if array.ndim > 1 else 0.1)
        for name, array in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def write_words(folder: Path, single: str, pair: str, *marks: str) -> int:
    """A tokenizer with a token for each word, and more special ones; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS, *marks])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens([*SPECIAL, *marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "cls_token": "[CLS]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "eos_token": "[SEP]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(vocabulary)


def write_modules(folder: Path, *kinds: str, pooling: dict[str, Any] | None = None) -> None:
    """Say in sentence-transformers' way what follows the transformer: `Pooling`, `Dense`, `Normalize`."""
    modules = [
        {"idx": n, "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(["Transformer", *kinds])
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def write_prompts(folder: Path, default: str | None = None, **prompts: str) -> None:
    """Give the model prompts of its own."""
    config = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
