"""Writes a random 2-layer llama with a real tokenizer: a model so cheap that a server's own cost shows.

`python bench/make_tiny.py SMOLLM2_FOLDER OUT_FOLDER`. The weights come from a fixed seed. The rows of the
special tokens in the output matrix are zero, so that greedy decoding never ends a sequence early.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama

SEED = 0
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)


def make_tiny(source: Path, out: Path, **sizes: int) -> Path:
    """Writes the model into `out` with the tokenizer of the MLX folder `source`; returns `out`. `sizes` are other
    values for its config."""
    copy_tokenizer(source, out)
    config = _config(json.loads((source / "config.json").read_text())) | sizes
    mx.save_safetensors(str(out / "model.safetensors"), _weights(config, _special_tokens(source)), {"format": "mlx"})
    # Last, so that a folder with a config is a complete one.
    (out / "config.json").write_text(json.dumps(config, indent=2))
    return out


def copy_tokenizer(source: Path, out: Path) -> None:
    """Makes the folder `out` with the tokenizer of another model."""
    out.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)


def _config(source: dict[str, Any]) -> dict[str, Any]:
    kept = ("vocab_size", "bos_token_id", "eos_token_id", "max_position_embeddings")
    return {name: source[name] for name in kept} | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _special_tokens(source: Path) -> list[int]:
    added = json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    return [token["id"] for token in added if token["special"]]


def _weights(config: dict[str, Any], special: list[int]) -> dict[str, mx.array]:
    mx.random.seed(SEED)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    weights = {name: _random(name, value) for name, value in sorted(tree_flatten(model.parameters()))}
    weights["lm_head.weight"][mx.array(special)] = 0.0
    mx.eval(weights)
    return weights


def _random(name: str, like: mx.array) -> mx.array:
    """Norm weights are 1; the others are large enough that greedy text is not one token repeated."""
    if like.ndim == 1:
        return mx.ones(like.shape, mx.float32)
    scale = 0.12 if "lm_head" in name else 1.0 if "embed" in name else 0.18
    return mx.random.normal(like.shape) * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="MLX folder of SmolLM2: its tokenizer is copied")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(make_tiny(options.source, options.out))


if __name__ == "__main__":
    main()
