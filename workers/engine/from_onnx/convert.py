"""`python -m mlx_server.workers.engine.from_onnx.convert SOURCE OUTPUT`: Kokoro as the folder that mlx-audio reads.

SOURCE has model.onnx, vocab.json and voices/NAME.bin, each with float32 numbers [lengths, D]. Why it failed is the last
line on standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import onnx
from google.protobuf.message import DecodeError

from mlx_server.workers.engine.from_onnx import kokoro
from mlx_server.workers.engine.from_onnx.graph import Graph


def convert(source: Path, output: Path) -> None:
    """Write the folder. Raises `DecodeError` for what is no ONNX model, or `OSError`."""
    weights = kokoro.weights(Graph(onnx.load(source / "model.onnx")))
    vocabulary = json.loads((source / "vocab.json").read_text(encoding="utf-8"))
    (output / "voices").mkdir(parents=True)
    config = json.dumps({**kokoro.CONFIG, **vocabulary}, indent=2, ensure_ascii=False)
    (output / "config.json").write_text(config, encoding="utf-8")
    mx.save_safetensors(str(output / "model.safetensors"), weights)
    for path in sorted((source / "voices").glob("*.bin")):
        # One vector for texts of each length, and one of a batch: [lengths, 1, D].
        voice = np.fromfile(path, "<f4").reshape(-1, 1, 2 * kokoro.CONFIG["style_dim"])
        mx.save_safetensors(str(output / "voices" / f"{path.stem}.safetensors"), {"voice": mx.array(voice)})


if __name__ == "__main__":
    try:
        convert(*map(Path, sys.argv[1:]))
    except DecodeError:
        sys.exit("it is no ONNX model")
    except OSError as error:
        sys.exit(str(error))
