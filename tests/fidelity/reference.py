"""Writes what torch and transformers compute of tiny models with random weights: cases/TYPE.json.

`python reference.py [TYPE ...]`, in an environment of its own (requirements.txt): the server has no torch. A case holds
the names and shapes of the weights as transformers saves them, its config, and for each variant of that config the
logits [3, COLUMNS] and whether version 4's form of it means the same. The weights follow from their names.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sizes import BASE, LOCAL_BASE, OWN, SIZES, TYPES, WINDOW
from tiny import COLUMNS, as_before, ids, kept, positions, weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.utils.logging import disable_progress_bar

CASES = Path(__file__).parent / "cases"
ORIGINAL = 128

SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "yarn, exact": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "attention_factor": 1.1,
        "truncate": False,
    },
    "llama3": {
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "dynamic": {"factor": 4.0},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
}

SCALED = ("full_attention", "compress")
"""Layers whose positions are scaled, by their names in `rope_parameters`."""

LENGTH_DEPENDENT = ("longrope",)
"""Scalings that turn differently while a text is shorter than those of the first training."""


def made(model_type: str, changes: Mapping[str, Any]) -> Any:
    """The config of a tiny model."""
    usual = AutoConfig.for_model(model_type).to_dict()
    sizes = {name: value for name, value in SIZES.items() if usual.get(name) is not None}
    return AutoConfig.for_model(model_type, **{**sizes, **OWN.get(model_type, {}), **changes})


def reads(config: Any) -> Any:
    """The collection of classes that has a config's; some that write text alone are among those that see."""
    known = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def variants(usual: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of variants of a config, and what they change."""
    if isinstance(usual.get("rope_parameters"), dict):
        for name in SCALINGS:
            yield name, {"rope_parameters": scaled(usual, name)}
            if name in LENGTH_DEPENDENT:
                yield f"{name}, short", {"rope_parameters": scaled(usual, name)}
    else:
        yield "default", {}
    if usual.get("sliding_window", 1) is None:
        yield "sliding", {"sliding_window": WINDOW}
    if "use_sliding_window" in usual:
        yield "sliding", {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 2}
    if usual.get("rope_interleave"):
        yield "halves", {"rope_interleave": False}
    yield "tied", {"tie_word_embeddings": True}
    yield "untied", {"tie_word_embeddings": False}
    yield "ties unsaid", {"tie_word_embeddings": None}


def scaled(usual: Mapping[str, Any], scaling: str) -> dict[str, Any]:
    """`rope_parameters`; of layers by type, those with full attention are scaled."""
    given = usual["rope_parameters"]
    wanted = {"rope_type": scaling, **SCALINGS[scaling]}
    if scaling == "longrope":
        wanted |= factors(usual)
    if not any(isinstance(value, dict) for value in given.values()):
        return {**given, "rope_theta": BASE, **wanted}
    return {
        kind: {**one, "rope_theta": BASE, **wanted} if kind in SCALED else {**one, "rope_theta": LOCAL_BASE}
        for kind, one in given.items()
        if isinstance(one, dict)
    }


def factors(usual: Mapping[str, Any]) -> dict[str, list[float]]:
    """longrope's, for each pair of dimensions."""
    width, heads = (usual.get("hidden_size") or usual["d_model"], usual.get("num_attention_heads") or usual["n_heads"])
    dims = usual.get("qk_rope_head_dim") or usual.get("head_dim") or width // heads
    share = usual["rope_parameters"].get("partial_rotary_factor") or usual.get("partial_rotary_factor") or 1
    pairs = range(int(dims * share) // 2)
    return {"short_factor": [1 + 0.05 * n for n in pairs], "long_factor": [1 + 0.5 * n for n in pairs]}


@torch.no_grad()
def logits(folder: Path, config: Mapping[str, Any], prompt: np.ndarray) -> np.ndarray:
    """What the folder's model says with this config: [len(positions), vocabulary]."""
    (folder / "config.json").write_text(json.dumps(config))
    model = (
        reads(AutoConfig.from_pretrained(folder))
        .from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
        .eval()
    )
    said = model(torch.tensor(prompt)[None], use_cache=False).logits[0, positions(prompt)]
    return np.asarray(said.float())


def saved(config: Any) -> dict[str, Any]:
    """A config as it is written to a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        written: dict[str, Any] = json.loads((Path(scratch) / "config.json").read_text())
    return written


def case(model_type: str, folder: Path) -> dict[str, Any]:
    """All of a type. Raises anything where transformers can't make a model of it."""
    torch.manual_seed(0)
    config = made(model_type, {})
    classes = reads(config)
    classes.from_config(made(model_type, {"tie_word_embeddings": False})).save_pretrained(folder)
    shapes = {name: list(array.shape) for name, array in load_file(folder / "model.safetensors").items()}
    made_up = weights(shapes)
    usual = {**saved(config), "architectures": [classes._model_mapping[type(config)].__name__]}
    found, refused = {}, {}
    for name, changes in variants(made(model_type, {}).to_dict()):
        try:
            found[name] = variant(model_type, usual, changes, folder, made_up, ids(name))
        except Exception as error:  # noqa: BLE001 - anything may be wrong with it
            refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return {"config": usual, "shapes": shapes, "variants": found, "refused by transformers": refused}


def variant(
    model_type: str,
    usual: Mapping[str, Any],
    changes: Mapping[str, Any],
    folder: Path,
    made_up: Mapping[str, np.ndarray],
    prompt: np.ndarray,
) -> dict[str, Any]:
    """One of them. Raises anything where transformers refuses it."""
    asked = {**usual, **changes}
    if "tie_word_embeddings" not in changes or changes["tie_word_embeddings"] is not None:
        asked = saved(made(model_type, changes))
    differs = {name: value for name, value in asked.items() if value is not None and usual.get(name) != value}
    missing = [name for name in usual if asked.get(name) is None]
    now = {name: value for name, value in {**usual, **differs}.items() if name not in missing}
    save_file(kept(now, made_up), folder / "model.safetensors", {"format": "pt"})
    expected = logits(folder, now, prompt)
    old = as_before(now)
    same = old is not None and means_the_same(folder, old, prompt, expected)
    return {"set": differs, "missing": missing, "before": same, "logits": rounded(expected)}


def means_the_same(folder: Path, old: Mapping[str, Any], prompt: np.ndarray, expected: np.ndarray) -> bool:
    """Whether transformers computes the same by version 4's form of a config. It can't read that form of all types."""
    try:
        return bool(np.allclose(logits(folder, old, prompt), expected, atol=1e-4))
    except Exception:  # noqa: BLE001 - anything may be wrong with it
        return False


def rounded(expected: np.ndarray) -> list[list[float]]:
    """Some columns, to five digits."""
    return [[float(f"{value:.5g}") for value in row[:COLUMNS]] for row in expected]


def main(types: list[str]) -> None:
    """Write the cases of all types, or of some."""
    logging.disable(logging.ERROR)
    disable_progress_bar()
    torch.set_num_threads(1)
    CASES.mkdir(exist_ok=True)
    for model_type in types:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found = case(model_type, Path(scratch))
            except Exception as error:  # noqa: BLE001 - anything may be wrong with it
                print(f"{model_type}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
                continue
        (CASES / f"{model_type}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        print(f"{model_type}: {len(found['variants'])} variants; {found['refused by transformers'] or ''}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or TYPES)
