"""What this server computes of the cases that reference.py wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from fidelity.explained import Place, State, judged
from fidelity.tiny import COLUMNS, as_before, ids, kept, positions, weights
from mlx_lm.models.cache import make_prompt_cache
from safetensors.numpy import save_file

from mlx_server.workers.engine.loading.loading import read_model
from mlx_server.workers.engine.vision.inputs import MediaInputs
from mlx_server.workers.engine.vision.loading import read_seeing
from mlx_server.workers.engine.vision.prefill import begin
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.known_types import knows

CASES = Path(__file__).parent / "cases"
CHUNK = 100
"""Prompts are read in pieces, as the server reads them."""

EQUAL = 1e-3
"""Of the largest logit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a variant went, as version `form` of transformers writes it. `note` is what the server says of it, or how far
    it is off."""

    variant: str
    form: int
    state: State
    note: str


def outcomes(model_type: str, folder: Path) -> Iterator[Outcome]:
    """Of all variants of a type; the folder is for its files."""
    case = json.loads((CASES / f"{model_type}.json").read_text())
    made = weights(case["shapes"])
    for name, variant in case["variants"].items():
        now = {key: value for key, value in (case["config"] | variant["set"]).items() if key not in variant["missing"]}
        save_file(kept(now, made), folder / "model.safetensors", {"format": "pt"})
        for form, config in ((5, now), (4, as_before(now) if variant["before"] else None)):
            if config is not None:
                state, note = outcome(folder, config, ids(name), np.array(variant["logits"]))
                yield Outcome(name, form, state, note)


def outcome(
    folder: Path, config: Mapping[str, Any], prompt: np.ndarray, wanted: np.ndarray, at: Sequence[int] | None = None
) -> tuple[State, str]:
    """How one goes, by the logits at these positions, the usual ones if none are given."""
    at = positions(prompt) if at is None else at
    (folder / "config.json").write_text(json.dumps(config))
    try:
        if knows("mlx_lm", config):
            model, _, notes = read_model(folder, "float32")
            found = logits(model, prompt, at)
        else:
            model, _, notes = read_seeing(folder, "float32")
            found = seen_logits(model, prompt.tolist(), at)
    except ModelLoadError as error:
        return "refused", str(error).partition("can't be loaded: ")[2]
    except Exception as error:  # noqa: BLE001 - anything may be wrong with it
        return "refused", f"{type(error).__name__} when it is tried: {' '.join(str(error).split())}"
    off = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max()
    places = [Place(position, len(prompt), f"at {position}") for position in at]
    return judged(notes, zip(places, off.tolist(), strict=True), EQUAL)


def logits(model: Any, prompt: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """The logits [len(at), COLUMNS] of a prompt that is read in pieces."""
    cache, parts = make_prompt_cache(model), []
    for start in range(0, len(prompt), CHUNK):
        part = model(mx.array(prompt[start : start + CHUNK])[None], cache=cache)
        parts.append(np.array(part[0].astype(mx.float32)))
    return np.concatenate(parts)[list(at), :COLUMNS]


def seen_logits(model: Any, prompt: list[int], at: Sequence[int], media: MediaInputs | None = None) -> np.ndarray:
    """The logits [len(at), COLUMNS] of a model of mlx-vlm's, of prompts that end there."""
    rows = []
    for place in at:
        prefill = begin(model, prompt[: place + 1], media)
        while prefill.advance(model, CHUNK):
            pass
        rows.append(np.array(prefill.finish(model)[0, :COLUMNS].astype(mx.float32)))
    return np.stack(rows)


if __name__ == "__main__":
    import sys
    import tempfile

    total: dict[str, int] = {}
    for kind in sys.argv[1:] or sorted(file.stem for file in CASES.glob("*.json")):
        with tempfile.TemporaryDirectory() as scratch:
            for row in outcomes(kind, Path(scratch)):
                total[row.state] = total.get(row.state, 0) + 1
                if row.state != "equal":
                    print(kind, "|", row.variant, row.form, "|", row.state, "|", row.note[:250], flush=True)
    print(total)
