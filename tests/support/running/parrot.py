"""Models that say given texts: the prompt's length decides which of them, and a token's place which token it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 128
LOUD = 30
"""How much louder a position is than the token that stands there."""

NAME_WIDTH = 40
TEMPLATE = (
    "{%% if false %%}%s{%% endif %%}{{ '<|im_start|>' ~ '%%-40.40s' %% (tools[0].function.name if tools else '')"
    " ~ 'x' * (messages[-1].content | int) ~ '%s' }}"
)
"""It knows tools, and is as long with them as without."""


@dataclass(frozen=True)
class Accent:
    """What a family's tokenizer has: a text in its template that tells the family, its tokens, and how a turn begins
    and ends."""

    hint: str = ""
    special: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    opening: str = "<|im_start|>assistant\\n"
    end: str = "<|im_end|>"


def make_parrot(folder: Path, accent: Accent, texts: Sequence[str]) -> list[str]:
    """Write a model; gives for each text the message to which it is the greedy answer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, accent)
    lead = len(encoded(tokenizer, "<|im_start|>" + " " * NAME_WIDTH + accent.opening.replace("\\n", "\n")))
    said: dict[int, int] = {}
    messages = []
    place = lead
    for text in texts:
        messages.append(str(place - lead))
        tokens = encoded(tokenizer, text + accent.end)
        said |= {place - 1 + i: token for i, token in enumerate(tokens)}
        place += len(tokens)
    write_model(folder, tokenizer, said, place + 8, tokenizer.token_to_id(accent.end))
    return messages


def encoded(tokenizer: Any, text: str) -> list[int]:
    """A text's tokens."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def write_tokenizer(folder: Path, accent: Accent) -> Any:
    """A token for each byte, and the accent's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = dict.fromkeys(["<|im_start|>", accent.end, *accent.special])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in accent.ordinary])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": accent.end,
        "chat_template": TEMPLATE % (accent.hint, accent.opening),
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def write_model(folder: Path, tokenizer: Any, said: Mapping[int, int], positions: int, end: int) -> None:
    """A GPT-2 of one layer that does nothing: a position's vector is the token that follows there."""
    import mlx.core as mx
    import numpy as np

    rng = np.random.default_rng(0)
    size = tokenizer.get_vocab_size()
    tokens = rng.standard_normal((size, WIDTH))
    following = [said.get(position, end) for position in range(positions)]
    weights: dict[str, Any] = {"wte.weight": tokens, "wpe.weight": LOUD * tokens[following]}
    weights |= norms("ln_f") | norms("h.0.ln_1") | norms("h.0.ln_2")
    shapes = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
    for name, (rows, columns) in shapes.items():
        weights[f"h.0.{name}.weight"] = np.zeros((rows * WIDTH, columns * WIDTH))
        weights[f"h.0.{name}.bias"] = np.zeros(columns * WIDTH)
    arrays = {name: mx.array(array.astype(np.float32)) for name, array in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "pt"})
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_ctx": positions,
        "n_positions": positions,
        "max_position_embeddings": positions,
        "n_embd": WIDTH,
        "n_head": 2,
        "n_layer": 1,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": size,
        "eos_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config))


def norms(name: str) -> dict[str, Any]:
    """A layer norm that only normalises."""
    import numpy as np

    return {f"{name}.weight": np.ones(WIDTH), f"{name}.bias": np.zeros(WIDTH)}


def make_parrots(folder: Path, sayings: Iterable[tuple[str, Accent, str]]) -> dict[str, str]:
    """A model for each name in (name, accent, text), in folders of its own; gives the message for each text."""
    grouped: dict[str, tuple[Accent, list[str]]] = {}
    for name, accent, text in sayings:
        grouped.setdefault(name, (accent, []))[1].append(text)
    messages = {}
    for name, (accent, texts) in grouped.items():
        messages |= {name + text: m for text, m in zip(texts, make_parrot(folder / name, accent, texts), strict=True)}
    return messages
