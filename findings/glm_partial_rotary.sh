#!/usr/bin/env bash
# mlx-lm 0.32.2, class `glm` (GLM-4-9B): `partial_rotary_factor` is never looked at.
#
# Guess before it was run: a config with 0.5, which is what transformers takes where a folder says nothing, gives other
# logits than one with 1.0, since half of each head's dimensions are rotated there and all of them here.
# Seen: the logits are the same to the last bit, because the whole head is rotated whatever the key says. In `glm4`, the
# class for the next generation, they differ. No error, no warning.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" "mlx-lm==0.32.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models import glm, glm4

config = {
    "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 100, "attention_bias": True, "rope_theta": 10000.0,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}


def logits(module, factor):
    arguments = module.ModelArgs.from_dict(
        {**config, "model_type": module.__name__.rpartition(".")[2], "partial_rotary_factor": factor}
    )
    model = module.Model(arguments)
    mx.random.seed(1)
    model.update(tree_map(lambda a: 0.3 * mx.random.normal(a.shape), model.parameters()))
    return model(mx.arange(60)[None])


same = {module.__name__: bool(mx.array_equal(logits(module, 0.5), logits(module, 1.0))) for module in (glm, glm4)}
print(same)
sys.exit(same != {"mlx_lm.models.glm": True, "mlx_lm.models.glm4": False})
PYTHON
