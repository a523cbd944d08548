#!/usr/bin/env bash
# transformers 5.24.0: OLMo Hybrid's convolution is saved in three equal parts, though queries and keys are narrower
# than values.
#
# Guess before it was run: `q_conv1d`, `k_conv1d` and `v_conv1d` in a file are as long as the queries, keys and values
# that they filter: `linear_num_key_heads` times `linear_key_head_dim` twice, and the same of values.
# Seen: the one kernel is cut into thirds, so that part of the keys' stands under the queries' name and part of the
# values' under the keys'. transformers joins them again; a program that takes the names at their word can't load the
# file, or loads it wrongly.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.13.0"
"$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>/dev/null
import sys

from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

config = AutoConfig.for_model(
    "olmo_hybrid",
    vocab_size=32,
    pad_token_id=0,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    layer_types=["linear_attention", "full_attention"],
    linear_num_key_heads=2,
    linear_num_value_heads=2,
    linear_key_head_dim=8,
    linear_value_head_dim=32,
)
AutoModelForCausalLM.from_config(config).save_pretrained(sys.argv[1])
with safe_open(f"{sys.argv[1]}/model.safetensors", "pt") as file:
    names = [name for name in file.keys() if "conv1d" in name]
    sizes = {name.rsplit(".", 2)[-2]: file.get_slice(name).get_shape()[0] for name in sorted(names)}
print("channels in the file:", sizes, "of queries, keys and values:", [2 * 8, 2 * 8, 2 * 32])
sys.exit(sizes != {"q_conv1d": 32, "k_conv1d": 32, "v_conv1d": 32})
PYTHON
