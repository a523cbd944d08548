"""Writes a random llama of 4 bits in groups of 64.

`python bench/packed/random_llama.py OUT [--hidden 2048] [--layers 16] [--tokenizer FOLDER]`: as it stands it has a
billion weights; with `--hidden 4096 --layers 32` it has eight. They come from a fixed seed, and no more than one layer
of them is held at a time. To be served it needs a tokenizer, which is that of another model's folder.
"""

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama

sys.path.insert(0, str(Path(__file__).parents[1]))

from make_tiny import copy_tokenizer

QUANTIZATION = {"group_size": 64, "bits": 4, "mode": "affine"}


def main() -> None:
    """Make the arrays one by one, and write a file for each layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--tokenizer", type=Path, help="folder of the model whose tokenizer it gets")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
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
    if given.tokenizer is not None:
        source = json.loads((given.tokenizer / "config.json").read_text())
        config |= {name: source[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
        copy_tokenizer(given.tokenizer, given.out)
    files = write(given.out, config)
    (given.out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}, indent=2))
    (given.out / "config.json").write_text(json.dumps(config | {"quantization": QUANTIZATION}, indent=2))


def write(out: Path, config: dict[str, object]) -> dict[str, str]:
    """The weights; returns in which file each is. MLX makes an array when it is evaluated."""
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    nn.quantize(model, **QUANTIZATION)
    weights = dict(tree_flatten(model.parameters()))
    del model
    files = {}
    for number, (_, names) in enumerate(groupby(list(weights), layer_of)):
        shard, file = {name: weights.pop(name) for name in names}, f"model-{number:05}.safetensors"
        for array in shard.values():
            mx.eval(array)
        mx.save_safetensors(str(out / file), shard, {"format": "mlx"})
        files |= dict.fromkeys(shard, file)
    return files


def layer_of(name: str) -> str:
    """The layer that a weight belongs to; "" for those outside of all."""
    return name.split(".")[2] if ".layers." in name else ""


if __name__ == "__main__":
    main()
