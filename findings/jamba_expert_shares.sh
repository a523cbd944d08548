#!/usr/bin/env bash
# mlx-lm 0.32.2 and transformers 5.24.0: Jamba's experts are weighed differently.
#
# Guess before it was run: with the same weights, one sparse block of Jamba gives the same numbers in both.
# Seen: transformers takes the softmax over all experts and keeps the shares of the chosen ones as they are, so that they
# add up to less than one; mlx-lm takes the softmax over the chosen ones, so that they add up to one. With 4 experts, 2
# of them chosen and even scores its output is twice as large. No error, no warning.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" "mlx-lm==0.32.2" "transformers==5.24.0" "torch==2.13.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import mlx.core as mx
import numpy as np
import torch
from mlx_lm.models import jamba
from transformers import JambaConfig
from transformers.models.jamba import modeling_jamba

SIZE, INNER, EXPERTS = 32, 48, 4
config = JambaConfig(hidden_size=SIZE, intermediate_size=INNER, num_experts=EXPERTS, num_experts_per_tok=2)
theirs = modeling_jamba.JambaSparseMoeBlock(config).eval()
generator = np.random.default_rng(0)
with torch.no_grad():
    for weight in theirs.parameters():
        weight.copy_(torch.tensor(0.2 * generator.standard_normal(weight.shape), dtype=torch.float32))
    for name, weight in theirs.named_parameters():
        if name.startswith("router"):
            weight.zero_()  # even scores: every expert has a quarter
state = {name: weight.detach().numpy() for name, weight in theirs.named_parameters()}


class Arguments:
    hidden_size, intermediate_size, num_experts, num_experts_per_tok, mlp_bias = SIZE, INNER, EXPERTS, 2, False


ours = jamba.JambaSparseMoeBlock(Arguments)
gate, up = np.split(state["experts.gate_up_proj"], 2, axis=1)
ours.load_weights(
    [
        ("router.weight", mx.zeros((EXPERTS, SIZE))),
        ("switch_mlp.gate_proj.weight", mx.array(gate)),
        ("switch_mlp.up_proj.weight", mx.array(up)),
        ("switch_mlp.down_proj.weight", mx.array(state["experts.down_proj"])),
    ]
)
x = generator.standard_normal((1, 1, SIZE)).astype(np.float32)
chosen = mx.argpartition(ours.router(mx.array(x)), kth=-2, axis=-1)[..., -2:]
mine = np.array(ours(mx.array(x)))[0, 0]
with torch.no_grad():
    each = [
        (torch.nn.functional.silu(torch.tensor(x[0, 0] @ gate[n].T)) * torch.tensor(x[0, 0] @ up[n].T)).numpy()
        @ state["experts.down_proj"][n].T
        for n in range(EXPERTS)
    ]
    found = theirs(torch.tensor(x))
    found = (found[0] if isinstance(found, tuple) else found).numpy().reshape(-1)


def shares(output):
    """What each expert's output is multiplied by to give the block's."""
    return np.linalg.lstsq(np.array(each).T, output, rcond=None)[0]


sums = round(float(shares(mine).sum()), 3), round(float(shares(found).sum()), 3)
print("the shares of the chosen experts add up to", {"mlx-lm": sums[0], "transformers": sums[1]})
sys.exit(sums != (1.0, 0.5))
PYTHON
