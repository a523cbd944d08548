#!/usr/bin/env bash
# mlx-vlm 0.7.10: Gemma 3's pictures are scaled by a width that no config has.
#
# Guess before it was run: a picture's vectors among a text's, once the part that writes text has multiplied them all by
# the root of its width, are what the projector made of the picture.
# Seen: they are larger by the root of the text's width over 2,048. They were divided by the root of `hidden_size` beside
# the parts of the config, which transformers does not write there, and 2,048 is the class's default: 1.12 times too
# large for the 4B model (width 2,560), 1.62 times for the 27B model (5,376). No error, no warning. PaliGemma's class
# does the same.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" "mlx-vlm==0.7.10" "transformers==5.24.0"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import sys

import mlx.core as mx
from mlx_vlm.models import gemma3
from transformers import Gemma3Config

WIDTH, PICTURE = 512, 5
TEXT = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 16}
SEEING = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
written = Gemma3Config(
    text_config={**TEXT, "num_key_value_heads": 2, "vocab_size": 16},
    vision_config={**SEEING, "image_size": 32, "patch_size": 8},
    mm_tokens_per_image=4,
    image_token_index=PICTURE,
).to_dict()
print("hidden_size beside the parts of the config:", written.get("hidden_size"))
written["text_config"]["mm_tokens_per_image"] = 4
config = gemma3.ModelConfig.from_dict(written)
config.text_config = gemma3.TextConfig.from_dict(written["text_config"])
config.vision_config = gemma3.VisionConfig.from_dict(written["vision_config"])
model = gemma3.Model(config)
pixels, ids = mx.random.uniform(shape=(1, 3, 32, 32)), mx.array([[1, PICTURE, PICTURE, PICTURE, PICTURE, 2]])
made = model.multi_modal_projector(model.vision_tower(pixels.transpose(0, 2, 3, 1), output_hidden_states=True)[0])
among = model.get_input_embeddings(ids, pixels, mask=mx.ones_like(ids)).inputs_embeds[:, 1:5] * WIDTH**0.5
ratio = (mx.linalg.norm(among) / mx.linalg.norm(made)).item()
print(f"a picture's vectors are {ratio:.3f} times as large as the projector made them, for a width of {WIDTH}")
sys.exit(abs(ratio - (WIDTH / 2048) ** 0.5) > 1e-3)
PYTHON
