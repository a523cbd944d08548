"""Writes what sentence-transformers makes of tiny models with random weights: cases/sentences/TYPE.json.

`python reference_sentences.py [TYPE ...]`, in the reference's environment. A case holds, for each variant of a type,
the small files of its folder as sentence-transformers saves them, the names and shapes of its weights by their file,
and the vectors [texts, COLUMNS] or the pairs' scores. What several variants have in common is there once.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fidelity.sentences import COLUMNS, PAIRS, TEXTS, file_weights
from support.tiny.encoders import TEMPLATES, write_words

CASES = Path(__file__).parent / "cases" / "sentences"

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
DECODER: dict[str, Any] = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
SIZES: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "xlm-roberta": {**COMMON, "max_position_embeddings": 258, "type_vocab_size": 1},
    "modernbert": {**COMMON, "local_attention": 16},
    "qwen3": DECODER,
    "gemma3_text": {**DECODER, "query_pre_attn_scalar": 8, "sliding_window": 512, "num_hidden_layers": 6}
    | {"use_bidirectional_attention": True},
    "lfm2": {**DECODER, "layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "ministral3": {**DECODER, "is_causal": False},
    "roberta": {**COMMON, "max_position_embeddings": 258},
    "distilbert": {"dim": 32, "n_layers": 2, "hidden_dim": 64, "n_heads": 4, "max_position_embeddings": 256},
    "mpnet": COMMON,
    "nomic_bert": COMMON,
    "qwen2": DECODER,
    "llama": DECODER,
}
UNSERVED = ("roberta", "distilbert", "mpnet", "nomic_bert", "qwen2", "llama")
"""Types that are refused, whatever their pooling: one variant shows it."""

RERANKERS = ("bert", "xlm-roberta", "modernbert")

TYPES = "token_type_ids"
"""What a tokenizer gives a model that tells the texts of a pair apart."""

ROPE = {"rope_theta": 31_337.0}
ORIGINAL = {"original_max_position_embeddings": 64}

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {
        "another epsilon": {"layer_norm_eps": 1e-2},
        "relu": {"hidden_act": "relu"},
        "gelu_new": {"hidden_act": "gelu_new"},
    },
    "xlm-roberta": {"another epsilon": {"layer_norm_eps": 1e-2}, "relu": {"hidden_act": "relu"}},
    "modernbert": {
        "other bases": {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 31_337.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            }
        },
        "full attention elsewhere": {
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
        },
        "every second layer": {"layer_types": ["full_attention", "sliding_attention"] * 2},
        "scaled": {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 31_337.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            }
        },
        "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
        "relu": {"hidden_activation": "relu"},
    },
    "qwen3": {
        "another base": {"rope_parameters": {"rope_type": "default", **ROPE}},
        "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **ROPE}},
        "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, **ORIGINAL, **ROPE}},
        "sliding": {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2},
        "attention both ways": {"is_causal": False},
        "biases": {"attention_bias": True},
    },
    "gemma3_text": {
        "attention one way": {"use_bidirectional_attention": False},
        "sliding": {"sliding_window": 16},
        "other bases": {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 31_337.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            }
        },
    },
    "lfm2": {
        "another base": {"rope_parameters": {"rope_type": "default", **ROPE}},
        "attention both ways": {"is_causal": False},
    },
    "ministral3": {
        "attention one way": {"is_causal": True},
        "sliding": {"sliding_window": 16},
        "another factor": {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": 64,
                "llama_4_scaling_beta": 0.2,
                **ROPE,
            }
        },
    },
}
"""What variants change in the configs of types, beside those that all have."""


def config_of(kind: str, vocab_size: int, changes: Mapping[str, Any]) -> Any:
    """The config of a tiny model; some are attributes that are saved, though the class does not know them."""
    return AutoConfig.for_model(kind, **{**SIZES[kind], "vocab_size": vocab_size, **changes})


Heads = dict[str, list[dict[str, Any]]]
HEADS: Heads = {
    "mean": [{"pooling_mode": "mean"}],
    "cls": [{"pooling_mode": "cls"}],
    "last": [{"pooling_mode": "lasttoken"}],
    "max": [{"pooling_mode": "max"}],
    "weighted mean": [{"pooling_mode": "weightedmean"}],
    "mean and maximum": [{"pooling_mode": ["mean", "max"]}],
    "mean over the root of the length": [{"pooling_mode": "mean_sqrt_len_tokens"}],
    "normalised": [{"pooling_mode": "mean"}, {"normalize": True}],
    "dense": [{"pooling_mode": "mean"}, {"dense": "Tanh", "out": 24}],
    "two dense": [
        {"pooling_mode": "mean"},
        {"dense": "Identity", "out": 48, "bias": False},
        {"dense": "Identity", "out": 32, "bias": False},
        {"normalize": True},
    ],
    "dense, then normalised": [{"pooling_mode": "cls"}, {"dense": "GELU", "out": 24}, {"normalize": True}],
    "dense, unserved activation": [{"pooling_mode": "mean"}, {"dense": "ELU", "out": 24}],
}
"""How vectors come of hidden states."""


GEMMA_DENSE = [
    {"pooling_mode": "mean"},
    {"dense": "Identity", "out": 128, "bias": False},
    {"dense": "Identity", "out": 32, "bias": False},
    {"normalize": True},
]
"""What EmbeddingGemma has."""


def variants(kind: str) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Names of a type's variants, what they change in the config, and the modules after the transformer."""
    for name, head in HEADS.items():
        if name == "mean" or kind not in UNSERVED:
            yield name, {}, GEMMA_DENSE if name == "two dense" and kind == "gemma3_text" else head
    for name, changes in CHANGES.get(kind, {}).items():
        yield name, changes, HEADS["normalised"]


def module(settings: Mapping[str, Any], width: int) -> Any:
    """One of sentence-transformers' modules."""
    if "pooling_mode" in settings:
        return modules.Pooling(width, pooling_mode=settings["pooling_mode"])
    if "dense" in settings:
        activation = getattr(torch.nn, settings["dense"])()
        return modules.Dense(width, settings["out"], bias=settings.get("bias", True), activation_function=activation)
    return modules.Normalize()


def write_model(folder: Path, kind: str, config: Any) -> None:
    """A model and its tokenizer, as transformers saves them."""
    folder.mkdir()
    write_words(folder, *TEMPLATES.get(kind, TEMPLATES["bert" if "bert" in kind or kind == "mpnet" else "qwen3"]))
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)


def known(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A folder's small files, and the shapes of its weights by their file, which get their weights by name."""
    shapes = {}
    for file in sorted(folder.rglob("*.safetensors")):
        path = str(file.relative_to(folder))
        shapes[path] = {name: list(array.shape) for name, array in load_file(file).items()}
        save_file(file_weights(path, shapes[path]), file, {"format": "pt"})
    small = {str(file.relative_to(folder)): json.loads(file.read_text()) for file in sorted(folder.rglob("*.json"))}
    return small, shapes


def embedded(kind: str, changes: Mapping[str, Any], head: list[dict[str, Any]], scratch: Path) -> dict[str, Any]:
    """A variant of a model that embeds."""
    vocab_size = write_words(scratch, *TEMPLATES["bert"])
    write_model(scratch / "base", kind, config_of(kind, vocab_size, changes))
    first = modules.Transformer(str(scratch / "base"))
    chain, width = [first], first.get_embedding_dimension()
    for settings in head:
        chain.append(module(settings, width))
        made = chain[-1]
        width = made.get_embedding_dimension() if hasattr(made, "get_embedding_dimension") else width
    SentenceTransformer(modules=chain, device="cpu").save_pretrained(str(scratch / "model"), create_model_card=False)
    files, shapes = known(scratch / "model")
    model = SentenceTransformer(str(scratch / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    vectors = model.encode(list(TEXTS), batch_size=1, convert_to_numpy=True)
    return {"files": files, "shapes": shapes, "vectors": rounded(vectors[:, :COLUMNS])}


ACTIVATIONS = ("Identity", "Sigmoid", "Tanh", "ReLU", "Softplus")


def reranker_variants(kind: str) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Names of a type's variants, what they change in the config, and the activation that they are saved with."""
    yield "as saved", {}, None
    if kind not in RERANKERS:
        return
    if kind == "bert":
        yield "no types of tokens", {TYPES: False}, "Identity"
    for activation in ACTIVATIONS:
        yield activation, {}, activation
    yield "three labels", {"num_labels": 3}, None
    if kind == "modernbert":
        yield "mean of all tokens", {"classifier_pooling": "mean"}, "Identity"
        yield "a bias in the head", {"classifier_bias": True}, "Identity"
        yield "another activation in the head", {"classifier_activation": "silu"}, "Identity"
    for name, changes in CHANGES.get(kind, {}).items():
        yield name, changes, "Identity"


def scored(kind: str, changes: Mapping[str, Any], activation: str | None, scratch: Path) -> dict[str, Any]:
    """A variant of a cross-encoder."""
    (scratch / "base").mkdir()
    vocab_size = write_words(scratch / "base", *TEMPLATES["xlm-roberta" if kind == "roberta" else kind])
    if kind == "bert" and changes.get(TYPES, True):
        settings = json.loads((scratch / "base" / "tokenizer_config.json").read_text())
        names = {"model_input_names": ["input_ids", TYPES, "attention_mask"]}
        (scratch / "base" / "tokenizer_config.json").write_text(json.dumps(settings | names))
    asked = {name: value for name, value in changes.items() if name != TYPES}
    config = config_of(kind, vocab_size, {"num_labels": 1, **asked})
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(scratch / "base")
    function = {} if activation is None else {"activation_fn": getattr(torch.nn, activation)()}
    CrossEncoder(str(scratch / "base"), device="cpu", **function).save_pretrained(str(scratch / "model"))
    files, shapes = known(scratch / "model")
    model = CrossEncoder(str(scratch / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    scores = model.predict([list(pair) for pair in PAIRS], batch_size=1)
    return {"files": files, "shapes": shapes, "scores": rounded(np.asarray(scores).reshape(len(PAIRS), -1))}


def rounded(expected: np.ndarray) -> list[list[float]]:
    """To six digits."""
    return [[float(f"{value:.6g}") for value in row] for row in expected]


def case(kind: str) -> dict[str, Any]:
    """All of a type."""
    found: dict[str, Any] = {"embeddings": {}, "rerankers": {}, "refused": {}}
    for part, all_variants, make in (
        ("embeddings", variants(kind), embedded),
        ("rerankers", reranker_variants(kind), scored),
    ):
        for name, changes, how in all_variants:
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    found[part][name] = make(kind, changes, how, Path(scratch))
                except Exception as error:  # noqa: BLE001 - anything may be wrong with it
                    found["refused"][f"{part}: {name}"] = (
                        f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
                    )
    return shared(found)


def shared(found: Mapping[str, Any]) -> dict[str, Any]:
    """A case with a number in the place of each file, and of the shapes in one: that of its `contents`."""
    numbers: dict[str, int] = {}

    def numbered(files: Mapping[str, Any]) -> dict[str, int]:
        texts = {path: json.dumps(content, sort_keys=True) for path, content in files.items()}
        return {path: numbers.setdefault(text, len(numbers)) for path, text in texts.items()}

    parts = {
        part: {
            name: variant | {"files": numbered(variant["files"]), "shapes": numbered(variant["shapes"])}
            for name, variant in found[part].items()
        }
        for part in ("embeddings", "rerankers")
    }
    return {**found, **parts, "contents": [json.loads(text) for text in numbers]}


def main(kinds: list[str]) -> None:
    """Write the cases of all types, or of some."""
    logging.disable(logging.ERROR)
    disable_progress_bar()
    torch.set_num_threads(1)
    CASES.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        found = case(kind)
        (CASES / f"{kind}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        counts = f"{len(found['embeddings'])} + {len(found['rerankers'])} variants"
        print(f"{kind}: {counts}; {found['refused'] or ''}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [*SIZES])
