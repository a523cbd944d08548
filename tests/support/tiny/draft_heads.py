"""A tiny language model, and draft heads for it that are right now and then: no download, and no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from support.tiny.models import COMMON, make_model

Kind = Literal["mtp", "eagle3", "dflash"]
KINDS: tuple[Kind, ...] = ("mtp", "eagle3", "dflash")

SIZE = int(COMMON["hidden_size"])
MASK, FAVOURITE = 5, 9
"""What DFlash fills its blocks with, and the token that it proposes for it, which the model says often."""

TEXT: dict[str, Any] = {
    "hidden_size": SIZE,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": SIZE // 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
}


def make_easy(folder: Path, architecture: str = "llama", **more: Any) -> Path:
    """Write a random model of four layers whose next token mostly follows from the latest alone; returns its folder."""
    import mlx.core as mx

    make_model(folder, architecture, num_hidden_layers=4, **more)
    weights = read(folder)
    head = next(array for name, array in weights.items() if name.endswith("lm_head.weight"))
    masks, often = (mx.arange(head.shape[0])[:, None] == token for token in (MASK, FAVOURITE))
    for name, array in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight")):
            weights[name] = 0.03 * array
        if name.endswith("lm_head.weight"):
            weights[name] = mx.where(often, 2 * head, head)
        if name.endswith("embed_tokens.weight"):
            weights[name] = mx.where(masks, 4 * head[FAVOURITE], array)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def make_own_head(folder: Path) -> Path:
    """Write such a model with an MTP head among its weights, as its makers publish it; returns its folder."""
    import mlx.core as mx
    from mlx_vlm.speculative.drafters.qwen3_5_mtp import Model, ModelConfig

    make_easy(folder, "qwen3_5", mtp_num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text())
    own = head_weights(Model(ModelConfig.from_dict({"text_config": config})), "mtp", folder)
    # Its norms are kept as what they differ from one by.
    told = {f"mtp.{name}": array - 1 if array.ndim == 1 else array for name, array in own.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), read(folder) | told, {"format": "pt"})
    return folder


def make_head(folder: Path, kind: Kind, target: Path) -> Path:
    """Write a head for such a model, which proposes what follows from the latest token; returns its folder."""
    import mlx.core as mx
    from mlx_vlm.utils import get_model_and_args

    folder.mkdir(exist_ok=True)
    theirs = json.loads((target / "config.json").read_text())
    config = config_of(kind, theirs)
    (folder / "config.json").write_text(json.dumps(config))
    library, _ = get_model_and_args(config)
    own = head_weights(library.Model(library.ModelConfig.from_dict(config)), kind, target)
    mx.save_safetensors(str(folder / "model.safetensors"), own, {"format": "mlx"})
    return folder


def head_weights(head: Any, kind: Kind, target: Path) -> dict[str, Any]:
    """Weights of a head by name, with which it proposes what follows from the latest token."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    own = dict(tree_flatten(head.parameters()))
    same, nothing = mx.eye(SIZE), mx.zeros((SIZE, SIZE))
    for name, array in own.items():
        if array.ndim == 2 and not name.startswith(("embed_tokens", "lm_head")):
            own[name] = mx.zeros_like(array)
    if kind == "mtp":
        own["fc.weight"] = mx.concatenate([same, nothing], axis=1)
    if kind == "eagle3":
        weights, latest = read(target), mx.concatenate([same, nothing], axis=1)
        own["embed_tokens.weight"] = weights["model.embed_tokens.weight"]
        own["lm_head.weight"] = weights["lm_head.weight"]
        attention = "layers.0.self_attn."
        own |= {attention + "q_proj.weight": 20 * latest, attention + "k_proj.weight": 20 * latest}
        own |= {attention + "v_proj.weight": latest, attention + "o_proj.weight": same}
    return own


def config_of(kind: Kind, target: dict[str, Any]) -> dict[str, Any]:
    """What a head's folder says of it, as such folders do."""
    text = {**TEXT, "vocab_size": target["vocab_size"]}
    layers = target["num_hidden_layers"]
    match kind:
        case "mtp":
            rope = {"type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0, "mrope_section": [4, 2, 2]}
            text |= {"model_type": "qwen3_5", "rope_parameters": rope, "linear_conv_kernel_dim": 4}
            text |= {f"linear_{name}": 2 for name in ("num_value_heads", "num_key_heads")}
            text |= {f"linear_{name}_head_dim": 16 for name in ("key", "value")}
            return {"model_type": "qwen3_5_mtp", "block_size": 5, "text_config": text}
        case "eagle3":
            return {
                "model_type": "eagle3",
                "transformer_layer_config": text,
                "draft_vocab_size": target["vocab_size"],
                "target_layer_ids": [1, 2, layers],
                "block_size": 5,
            }
        case "dflash":
            places = {"mask_token_id": MASK, "target_layer_ids": list(range(layers)), "num_target_layers": layers}
            return {
                **text,
                "model_type": "qwen3",
                "block_size": 6,
                "num_target_layers": layers,
                "dflash_config": places,
            }


def read(folder: Path) -> dict[str, Any]:
    """The weights of a folder by name."""
    import mlx.core as mx

    return dict(mx.load(str(folder / "model.safetensors")))  # type: ignore[arg-type]
