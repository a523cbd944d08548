#!/usr/bin/env bash
# transformers 5.24.0: YaRN's `truncate: false` counts in a flat `rope_parameters`, not in one by the type of a layer.
#
# Guess before it was run: the frequencies of full-attention layers are the same whether a config's `rope_parameters`
# are flat (Llama) or hold the same set under "full_attention" (OLMo 3, Gemma 3): factor, length and the rest are read
# from that set.
# Seen: all but `truncate` are. It is looked for beside the types, where no config has it, so the correction range is
# rounded to whole dimensions, and frequencies between its ends differ.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.13.0"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import sys

from transformers import LlamaConfig, Olmo3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SIZES = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 4, "max_position_embeddings": 8192}


def frequencies(truncate):
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "truncate": truncate}
    yarn |= {"rope_theta": 31337.0}
    plain = {"rope_type": "default", "rope_theta": 31337.0}
    flat = LlamaConfig(**SIZES, rope_parameters=yarn)
    typed = Olmo3Config(**SIZES, rope_parameters={"full_attention": yarn, "sliding_attention": plain})
    make = ROPE_INIT_FUNCTIONS["yarn"]
    return make(flat, "cpu")[0], make(typed, "cpu", layer_type="full_attention")[0]


alike = {truncate: bool((one := frequencies(truncate))[0].equal(one[1])) for truncate in (True, False)}
print("flat and by type are equal with truncate:", alike)
sys.exit(alike != {True: True, False: False})
PYTHON
