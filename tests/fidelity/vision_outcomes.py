"""What this server computes of the cases that reference_vision.py wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from fidelity.explained import Place, State, judged
from fidelity.outcomes import CASES as ALL_CASES
from fidelity.outcomes import EQUAL, Outcome, seen_logits
from fidelity.outcomes import outcome as text_outcome
from fidelity.sight import PICTURE, arrays, positions, reading, seeing, seen_before
from fidelity.tiny import kept, weights
from safetensors.numpy import save_file

from mlx_server.workers.engine.vision.inputs import MediaInputs
from mlx_server.workers.engine.vision.loading import read_seeing
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.known_types import knows
from mlx_server.workers.folders.servable import wrong_type

CASES = ALL_CASES / "vision"
BATCHED = ("paddleocr_vl",)
"""Types whose processor in mlx-vlm gives pixels another axis, for prompts."""

WITHOUT_FRAMES = ("kimi_k25",)
"""Types whose processor says how many rows and columns of patches a picture has by another name, and no frames."""

TYPED = ("gemma4",)
"""Types whose processor tells tokens of pictures from others."""

Config = dict[str, Any]
PROMPTS = ("with a picture", "text alone")


def outcomes(model_type: str, folder: Path) -> Iterator[Outcome]:
    """Of all variants of a type; the folder is for its files."""
    for name, form, config, case, wanted in variants(model_type, folder):
        state, note = outcome(folder, config, case, wanted)
        yield Outcome(name, form, state, note)


def blind_outcomes(model_type: str, folder: Path) -> Iterator[Outcome]:
    """The same where mlx-lm computes the text alone, as it does with `--model-type lm`."""
    for name, form, config, _, wanted in variants(model_type, folder):
        state, note = text_outcome(folder, config, np.array(reading()), wanted[1], positions(reading()))
        yield Outcome(name, form, state, note)


def variants(
    model_type: str, folder: Path
) -> Iterator[tuple[str, int, dict[str, Any], dict[str, Any], list[np.ndarray]]]:
    """The names, forms and configs of all variants of a type, with its case and the logits of both prompts; the weights
    of each are in the folder meanwhile."""
    case = json.loads((CASES / f"{model_type}.json").read_text())
    made = weights(case["shapes"])
    for name, variant in case["variants"].items():
        now = case["config"] | variant["set"]
        save_file(kept(now, made), folder / "model.safetensors", {"format": "pt"})
        for form, config in ((5, now), (4, seen_before(now) if variant["before"] else None)):
            if config is not None:
                yield name, form, config, case, [np.array(one) for one in variant["logits"]]


def outcome(
    folder: Path, config: Mapping[str, Any], case: Mapping[str, Any], wanted: Sequence[np.ndarray]
) -> tuple[State, str]:
    """How one goes."""
    (folder / "config.json").write_text(json.dumps(config))
    if reason := wrong_type(folder, config, "vlm"):
        return "refused", reason
    try:
        model, _, notes = read_seeing(folder, "float32")
        prompts = [(seeing(case["picture"]), shown(case)), (reading(), None)]
        found = [seen_logits(model, prompt, positions(prompt), media) for prompt, media in prompts]
    except ModelLoadError as error:
        return "refused", str(error).partition("can't be loaded: ")[2]
    except Exception as error:  # noqa: BLE001 - anything may be wrong with it
        return "refused", f"{type(error).__name__} when it is tried: {' '.join(str(error).split())}"
    off = []
    for name, (prompt, _), one, other in zip(PROMPTS, prompts, found, wanted, strict=True):
        parts = np.abs(one - other).max(axis=1) / np.abs(other).max()
        off += [
            (Place(place, len(prompt), f"{name}, at {place}"), float(part))
            for place, part in zip(positions(prompt), parts, strict=True)
        ]
    return judged(notes, off, EQUAL)


def shown(case: Mapping[str, Any]) -> MediaInputs:
    """What stands beside the tokens of a prompt with a picture."""
    found = {name: mx.array(value) for name, value in arrays(case["given"]).items()}
    if case["config"]["model_type"] in WITHOUT_FRAMES:
        found["image_grid_hws"] = found.pop("image_grid_thw")[:, 1:]
    if case["config"]["model_type"] in BATCHED:
        found["pixel_values"] = found["pixel_values"][None]
    if case["config"]["model_type"] in TYPED:
        found["mm_token_type_ids"] = (mx.array([seeing(case["picture"])]) == PICTURE).astype(mx.int32)
    return MediaInputs(found, 1, ())


def types() -> list[str]:
    """Those that there are cases of."""
    return sorted(file.stem for file in CASES.glob("*.json"))


def blind_types() -> list[str]:
    """Those of which mlx-lm computes the text."""
    return [one for one in types() if knows("mlx_lm", config_of(one))]


def config_of(model_type: str) -> dict[str, Any]:
    """A case's config."""
    found: dict[str, Any] = json.loads((CASES / f"{model_type}.json").read_text())["config"]
    return found


if __name__ == "__main__":
    import sys
    import tempfile

    total: dict[str, int] = {}
    for kind in sys.argv[1:] or types():
        with tempfile.TemporaryDirectory() as scratch:
            for row in outcomes(kind, Path(scratch)):
                total[row.state] = total.get(row.state, 0) + 1
                if row.state != "equal":
                    print(kind, "|", row.variant, row.form, "|", row.state, "|", row.note[:250], flush=True)
    print(total)
