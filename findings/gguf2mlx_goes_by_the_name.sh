#!/usr/bin/env bash
# gguf2mlx 2.2.0: what a GGUF file is called decides what it is taken for, against its own architecture.
#
# Guess before it was run: `general.architecture` says how a file's tensors are to be read, and `general.name` is for
# people; where both are there the first counts.
# Seen: a file of the architecture `llama` with "Phi 4" in its name is taken for `phi4`, a Llama that calls itself a
# distillate of Phi 4 too. Published Phi-4 files are of the architecture `llama` where their makers have split the joined
# projections: for these the conversion then looks for tensors that are not there. With any other name the same file is
# taken for what it says.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "gguf2mlx==2.2.0" "gguf==0.19.0"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter
from gguf2mlx.gguf2mlx import detect_architecture

NAMES = {"Phi 4": "phi4", "Llama 8B Phi 4 Distill": "phi4", "Llama 8B Distill": "llama"}


def taken_for(name: str) -> str:
    """The architecture that a Llama of this name is read as."""
    path = Path(sys.argv[1]) / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return detect_architecture(GGUFReader(path))


found = {name: taken_for(name) for name in NAMES}
print(found)
sys.exit(found != NAMES)
PYTHON
