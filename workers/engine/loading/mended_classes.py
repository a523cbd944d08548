"""A workaround: classes of mlx-lm 0.32.2 that can't read what transformers 5.24 saves, or leave out a step.

Files have names of weights that a class does not know, no output layer where the embedding takes its place, or leave
biases out. A class of such a type is changed in what it makes of a file's weights; `mended` says where.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from mlx_server.workers.engine.loading.config_form import TIES
from mlx_server.workers.engine.loading.rope_form import rope_by_type
from mlx_server.workers.engine.loading.turning import turning

Weights = dict[str, mx.array]
"""Arrays by the names that a file or a class has for them."""

RENAMED: dict[str, Mapping[str, str]] = {
    "gemma3n": {r"^model\.(?!language_model|vision|audio|embed_vision|embed_audio)": "model.language_model."},
    "kimi_k25": {
        r"^language_model\.model\.blocks\.": "language_model.model.layers.",
        r"^model\.mm_projector\.": "mm_projector.",
    },
    "muse_glimmer": {r"^model\.(?=vision_)": ""},
    "gpt2": {r"^transformer\.": ""},
    "nanochat": {
        r"^model\.embed_tokens\.": "transformer.wte.",
        r"^model\.layers\.": "transformer.h.",
        r"\.self_attn\.([qkv])_proj\.": r".attn.c_\1.",
        r"\.self_attn\.o_proj\.": ".attn.c_proj.",
        r"\.mlp\.fc1\.": ".mlp.c_fc.",
        r"\.mlp\.fc2\.": ".mlp.c_proj.",
    },
    "olmo_hybrid": {
        r"\.attention_layer_norm\.": ".input_layernorm.",
        r"\.feedforward_layer_norm\.": ".post_attention_layernorm.",
    },
}
"""By type, patterns in names of weights and what the class has instead."""

OPTIONAL_BIASES = {"phimoe": {"attention_bias": ".self_attn.", "lm_head_bias": "lm_head."}}
"""By type, the keys that say that parts have no biases, and the parts, whose class always wants them."""

NAMED = frozenset({*RENAMED, *OPTIONAL_BIASES, "gpt_oss", "qwen3_5_moe"})
"""The types whose files are read otherwise."""

OUTPUTS = ("lm_head", "model.embed_out", "language_model.lm_head")
"""What classes call their output layers."""

EMBEDDINGS = (
    "model.embed_tokens",
    "model.embed_in",
    "model.wte",
    "transformer.wte",
    "language_model.model.embed_tokens",
)


def mended(config: dict[str, Any]) -> tuple[type, type]:
    """A type's class and that of its arguments, for `load_model`. Raises ValueError of an unknown type."""
    base, arguments = _get_classes(config)
    kind = str(config.get("model_type"))
    if kind in NAMED or config.get(TIES):
        base = reading(base, kind, config)
    if kind == "minicpm3":
        base = minicpm3(base)
    if kind == "nanochat":
        base = nanochat(base, config)
    if kind == "jamba":
        base = jamba(base)
    return base, arguments


def reading(base: Any, kind: str, config: Mapping[str, Any]) -> type:
    """A class that makes the weights that it wants of those in a file."""

    class Reading(base):  # type: ignore[misc]
        def sanitize(self, weights: Weights) -> Weights:
            wanted = dict(tree_flatten(self.parameters()))
            weights = renamed(weights, RENAMED.get(kind, {}))
            if kind == "gpt_oss":
                weights = with_named_experts(weights)
            if kind == "qwen3_5_moe":
                weights = with_joined_experts(weights)
            if kind == "olmo_hybrid":
                weights = with_whole_convolutions(weights, wanted)
            if hasattr(base, "sanitize"):
                weights = super().sanitize(weights)
                wanted = dict(tree_flatten(self.parameters()))  # some drop their output layer there
            weights = without_biases(weights, wanted, kind, config)
            if kind == "gemma3n":
                weights = with_shared_keys(weights, wanted, config)
            return with_output_layer(weights, wanted) if config.get(TIES) else weights

    return Reading


def renamed(weights: Weights, names: Mapping[str, str]) -> Weights:
    """The weights by the names of a class."""
    if not names:
        return weights

    def name_of(name: str) -> str:
        for pattern, text in names.items():
            name = re.sub(pattern, text, name)
        return name

    return {name_of(name): array for name, array in weights.items()}


def with_named_experts(weights: Weights) -> Weights:
    """gpt-oss in bf16: its experts' matrices [experts, in, out] as those of linear layers [experts, out, in]. The class
    knows the quantised ones only."""
    plain = re.compile(r"\.experts\.(gate_up|down)_proj$")
    return {
        f"{name}.weight" if plain.search(name) else name: array.swapaxes(-1, -2) if plain.search(name) else array
        for name, array in weights.items()
    }


def with_joined_experts(weights: Weights) -> Weights:
    """Experts that stand one by one in a file, as one array [experts, out, in]. The class knows them joined only."""
    one = re.compile(r"^(.*\.mlp)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.(\w+)$")
    parts: dict[str, dict[int, mx.array]] = {}
    rest = {}
    for name, array in weights.items():
        if found := one.match(name):
            parts.setdefault(f"{found[1]}.switch_mlp.{found[3]}.{found[4]}", {})[int(found[2])] = array
        else:
            rest[name] = array
    return {**rest, **{name: mx.stack([some[n] for n in sorted(some)]) for name, some in parts.items()}}


def with_whole_convolutions(weights: Weights, wanted: Weights) -> Weights:
    """OLMo Hybrid's kernels, which transformers computes as one and saves in three equal parts."""
    found = dict(weights)
    for name in weights:
        if name.endswith(".q_conv1d.weight"):
            names = [name.replace(".q_conv1d.", f".{letter}_conv1d.") for letter in "qkv"]
            sizes = [wanted[one].shape[0] for one in names]
            whole = mx.concatenate([weights[one] for one in names])
            found |= zip(names, mx.split(whole, [sizes[0], sizes[0] + sizes[1]]), strict=True)
    return found


def without_biases(weights: Weights, wanted: Weights, kind: str, config: Mapping[str, Any]) -> Weights:
    """Zeros where a config says that there is no bias."""
    parts = [part for key, part in OPTIONAL_BIASES.get(kind, {}).items() if not config.get(key)]
    absent = [name for name in wanted if name.endswith(".bias") and any(part in name for part in parts)]
    return {**{name: mx.zeros_like(wanted[name]) for name in absent}, **weights}


def with_shared_keys(weights: Weights, wanted: Weights, config: Mapping[str, Any]) -> Weights:
    """Zeros for Gemma 3n's last layers, which take keys and values from others: transformers 5 does not save what the
    class has there and never looks at."""
    text = config["text_config"]
    first = text["num_hidden_layers"] - text.get("num_kv_shared_layers", 0)
    unused = re.compile(r"\.layers\.(\d+)\.self_attn\.(?:k_proj|v_proj|k_norm)\.weight$")
    absent = [name for name in wanted if (found := unused.search(name)) and int(found[1]) >= first]
    return {**{name: mx.zeros_like(wanted[name]) for name in absent}, **weights}


def with_output_layer(weights: Weights, wanted: Weights) -> Weights:
    """The embedding's weights, quantised ones too, once more for an output layer that a class always has."""
    output = next((name for name in OUTPUTS if f"{name}.weight" in wanted and f"{name}.weight" not in weights), None)
    embedding = next((name for name in EMBEDDINGS if f"{name}.weight" in weights), None)
    if output is None or embedding is None:
        return weights
    parts = {name: f"{embedding}.{name}" for name in ("weight", "scales", "biases")}
    return {**weights, **{f"{output}.{name}": weights[path] for name, path in parts.items() if path in weights}}


def minicpm3(base: Any) -> type:
    """Where the embedding is the output layer, too, the class leaves out what scales down the last hidden states; its
    inner norms have another epsilon."""

    class Scaled(base):  # type: ignore[misc]
        def __init__(self, args: Any) -> None:
            super().__init__(args)
            for layer in self.layers:
                layer.self_attn.q_a_layernorm.eps = layer.self_attn.kv_a_layernorm.eps = 1e-6

        def __call__(self, inputs: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
            logits: mx.array = super().__call__(inputs, mask, cache)
            return (
                logits * (self.args.dim_model_base / self.args.hidden_size) if self.args.tie_word_embeddings else logits
            )

    return Scaled


def nanochat(base: Any, config: Mapping[str, Any]) -> type:
    """The class knows no scaling of rotary positions. What a scaling multiplies queries and keys by has no effect, as
    they are normalised afterwards."""
    asked = rope_by_type(config).get("")

    class Turned(base):  # type: ignore[misc]
        def __init__(self, args: Any) -> None:
            super().__init__(args)
            for layer in self.layers:
                wanted = asked and turning(asked, layer.attn.head_dim, args.max_position_embeddings)
                if wanted:
                    layer.attn._rope_freqs = -mx.array(wanted.periods, mx.float32)

    return Turned


def jamba(base: Any) -> type:
    """The class weighs the chosen experts so that their shares add up to one; they are shares of all experts'."""
    from mlx_lm.models.jamba import JambaSparseMoeBlock

    class Block(JambaSparseMoeBlock):  # type: ignore[misc]
        def __call__(self, x: mx.array) -> mx.array:
            shares = mx.softmax(self.router(x), axis=-1, precise=True)
            count = self.num_experts_per_tok
            chosen = mx.stop_gradient(mx.argpartition(-shares, kth=count - 1, axis=-1)[..., :count])
            weights = mx.take_along_axis(shares, chosen, axis=-1)
            found: mx.array = (self.switch_mlp(x, chosen) * weights[..., None].astype(x.dtype)).sum(axis=-2)
            return found

    class Weighed(base):  # type: ignore[misc]
        def __init__(self, args: Any) -> None:
            super().__init__(args)
            for layer in self.layers:
                if isinstance(layer.feed_forward, JambaSparseMoeBlock):
                    layer.feed_forward = Block(args)

    return Weighed
