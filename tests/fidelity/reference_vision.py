"""Writes what torch and transformers compute of tiny models that see: cases/vision/TYPE.json.

`python reference_vision.py [TYPE ...]`, in the reference's environment. A case holds the names and shapes of the
weights as transformers saves them, the config, the prompt's tokens for a picture and the arrays beside, and for each
variant of the config the logits [2, 3, COLUMNS] of a prompt with a picture and of one without, and whether version 4's
form of it means the same.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import rounded, saved, variants
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fidelity.families import FAMILIES, Family
from fidelity.sight import PICTURE, arrays, positions, reading, seeing, seen_before
from fidelity.tiny import kept, weights

CASES = Path(__file__).parent / "cases" / "vision"

WANTED = ("default", "linear", "yarn", "llama3", "sliding", "tied", "untied")
"""Variants of the part that writes text; the rest of them is compared where a model has nothing else."""


def made(model_type: str, family: Family, changes: Mapping[str, Any]) -> Any:
    """The config of a tiny model with changes in the part that writes text."""
    given = copy.deepcopy(family.config)
    ties = {name: value for name, value in changes.items() if name == "tie_word_embeddings"}
    inner = {name: value for name, value in changes.items() if name not in ties}
    given |= {"text_config": {**given["text_config"], **inner, **ties}, **ties}
    return AutoConfig.for_model(given.pop("model_type", model_type), **given)


@torch.no_grad()
def logits(folder: Path, config: Mapping[str, Any], family: Family) -> list[np.ndarray]:
    """What the folder's model says of both prompts with this config."""
    (folder / "config.json").write_text(json.dumps(config))
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    takes = inspect.signature(model.forward).parameters
    found = []
    for prompt, given in ((seeing(family.picture), arrays(family.given)), (reading(), {})):
        ids = torch.tensor(prompt)[None]
        beside = {name: torch.tensor(value) for name, value in given.items()}
        if "mm_token_type_ids" in takes and given:
            beside["mm_token_type_ids"] = (ids == PICTURE).int()
        if "token_type_ids" in takes:
            beside["token_type_ids"] = (ids == PICTURE).int()
        if model.config.model_type == "llama4":
            said = by_parts(model, ids, beside.get("pixel_values"))
        else:
            said = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **beside)
        found.append(np.asarray(said.logits[0, positions(prompt)].float()))
    return found


def by_parts(model: Any, ids: torch.Tensor, pixels: torch.Tensor | None) -> Any:
    """What Llama 4 says, whose class in transformers 5.24 computes it and then fails to name it."""
    embeddings = model.get_input_embeddings()(ids)
    if pixels is not None:
        seen = model.multi_modal_projector(model.vision_model(pixels).last_hidden_state.flatten(0, 1))
        embeddings = embeddings.masked_scatter((ids == PICTURE)[..., None], seen)
    return model.language_model(inputs_embeds=embeddings, attention_mask=torch.ones_like(ids), use_cache=False)


def case(model_type: str, folder: Path) -> dict[str, Any]:
    """All of a type. Raises anything where transformers can't make a model of it."""
    torch.manual_seed(0)
    family = FAMILIES[model_type]
    config = made(model_type, family, {})
    untied = made(model_type, family, {"tie_word_embeddings": False})
    AutoModelForImageTextToText.from_config(untied).save_pretrained(folder)
    shapes = {name: list(array.shape) for name, array in load_file(folder / "model.safetensors").items()}
    usual = {**saved(config), "architectures": [AutoModelForImageTextToText._model_mapping[type(config)].__name__]}
    found, refused = {}, {}
    for name, changes in wanted(config.get_text_config().to_dict()):
        try:
            found[name] = variant(model_type, usual, changes, folder, weights(shapes))
        except Exception as error:  # noqa: BLE001 - anything may be wrong with it
            refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return {
        "config": usual,
        "shapes": shapes,
        "picture": family.picture,
        "given": family.given,
        "variants": found,
        "refused by transformers": refused,
    }


def wanted(usual: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of variants, and what they change."""
    return ((name, changes) for name, changes in variants(usual) if name in WANTED)


def variant(
    model_type: str,
    usual: Mapping[str, Any],
    changes: Mapping[str, Any],
    folder: Path,
    made_up: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """One of them. Raises anything where transformers refuses it."""
    family = FAMILIES[model_type]
    now = {**saved(made(model_type, family, changes)), "architectures": usual["architectures"]}
    save_file(kept(now, made_up), folder / "model.safetensors", {"format": "pt"})
    expected = logits(folder, now, family)
    old = seen_before(now)
    same = old is not None and means_the_same(folder, old, family, expected)
    differs = {name: value for name, value in now.items() if usual.get(name) != value}
    return {"set": differs, "before": same, "logits": [rounded(one) for one in expected]}


def means_the_same(folder: Path, old: Mapping[str, Any], family: Family, expected: list[np.ndarray]) -> bool:
    """Whether transformers computes the same by version 4's form of a config. It can't read that form of all types."""
    try:
        found = logits(folder, old, family)
    except Exception:  # noqa: BLE001 - anything may be wrong with it
        return False
    return all(np.allclose(one, other, atol=1e-4) for one, other in zip(found, expected, strict=True))


def main(types: list[str]) -> None:
    """Write the cases of all types, or of some."""
    logging.disable(logging.ERROR)
    disable_progress_bar()
    torch.set_num_threads(1)
    CASES.mkdir(parents=True, exist_ok=True)
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
    main(sys.argv[1:] or [*FAMILIES])
