"""Random LoRA adapters in mlx-lm's own format, made with mlx-lm's own tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KEYS = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]


def make_adapter(model_folder: Path, folder: Path, seed: int, *, kind: str = "lora", rank: int = 4) -> Path:
    """Write an adapter for a model, strong enough to change what it says; returns its folder."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    parameters: dict[str, Any] = {"rank": rank, "scale": 8.0, "dropout": 0.1, "keys": KEYS}
    model = load_model(model_folder, lazy=True)[0]
    model.freeze()
    linear_to_lora_layers(model, 2, parameters, use_dora=kind == "dora")
    mx.random.seed(seed)
    weights = {name: mx.random.normal(array.shape) * 0.1 for name, array in tree_flatten(model.trainable_parameters())}
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def edit_config(adapter: Path, **changes: object) -> None:
    """Change an adapter's config."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


if __name__ == "__main__":
    import sys

    for seed, path in enumerate(sys.argv[2:]):
        make_adapter(Path(sys.argv[1]), Path(path), seed)
