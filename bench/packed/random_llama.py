"""Writes a random llama of 4 bits in groups of 64.

`python bench/packed/random_llama.py OUT [--hidden 2048] [--layers 16]`: as it stands it has a billion weights. They
come from a fixed seed; it has no tokenizer.
"""

import argparse
import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama

QUANTIZATION = {"group_size": 64, "bits": 4, "mode": "affine"}


def main() -> None:
    """Make the arrays one by one, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=16)
    given = parser.parse_args()
    config = {
        "model_type": "llama",
        "vocab_size": 32_000,
        "hidden_size": given.hidden,
        "num_hidden_layers": given.layers,
        "intermediate_size": 4 * given.hidden,
        "num_attention_heads": given.hidden // 64,
        "num_key_value_heads": given.hidden // 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    nn.quantize(model, **QUANTIZATION)
    weights = dict(tree_flatten(model.parameters()))
    for array in weights.values():
        mx.eval(array)
    given.out.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(given.out / "model.safetensors"), weights, {"format": "mlx"})
    (given.out / "config.json").write_text(json.dumps(config | {"quantization": QUANTIZATION}, indent=2))


if __name__ == "__main__":
    main()
