"""What this server makes of the cases that reference_sentences.py wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fidelity.explained import Place, State, judged
from fidelity.outcomes import CASES as ALL_CASES
from fidelity.outcomes import EQUAL, Outcome
from fidelity.sentences import COLUMNS, LENGTHS, PAIRS, TEXTS, file_weights, write_files
from safetensors.numpy import save_file
from support.computing import Computing

from mlx_server.workers.errors import ModelLoadError

CASES = ALL_CASES / "sentences"

Part = Literal["embeddings", "rerankers"]


def outcomes(kind: str, part: Part, folder: Path) -> Iterator[Outcome]:
    """Of all variants of a type; the folder is for their files."""
    case = json.loads((CASES / f"{kind}.json").read_text())
    contents = case["contents"]
    for name, variant in case[part].items():
        place = folder / "model"
        shutil.rmtree(place, ignore_errors=True)
        write_files(place, {path: contents[number] for path, number in variant["files"].items()})
        for path, number in variant["shapes"].items():
            save_file(file_weights(path, contents[number]), place / path, {"format": "pt"})
        state, note = outcome(place, part, variant)
        yield Outcome(name, 5, state, note)


def outcome(folder: Path, part: Part, variant: Mapping[str, Any]) -> tuple[State, str]:
    """How one goes."""
    try:
        computing = Computing(folder, "embeddings" if part == "embeddings" else "rerank", cpu_dtype="float32")
    except ModelLoadError as error:
        return "refused", str(error).replace(str(folder), "the folder")
    if part == "embeddings":
        wanted, found = np.array(variant["vectors"]), computing.vectors(*TEXTS)[:, :COLUMNS]
    else:
        wanted, found = np.array(variant["scores"]), np.array(computing.scores(*PAIRS))[:, None]
    off = np.abs(found - wanted).max(axis=1) / (np.abs(wanted).max() or 1)
    places = [Place(words, words, f"of {words} words") for words in LENGTHS]
    return judged(computing.facts.notes, zip(places, off.tolist(), strict=True), EQUAL)


def kinds() -> list[str]:
    """The types that there are cases of."""
    return sorted(file.stem for file in CASES.glob("*.json"))


if __name__ == "__main__":
    import sys
    import tempfile

    parts: tuple[Part, ...] = ("embeddings", "rerankers")
    total: dict[str, int] = {}
    for one in sys.argv[1:] or kinds():
        for which in parts:
            with tempfile.TemporaryDirectory() as scratch:
                for row in outcomes(one, which, Path(scratch)):
                    total[row.state] = total.get(row.state, 0) + 1
                    if row.state != "equal":
                        print(one, which, "|", row.variant, "|", row.state, "|", row.note[:250], flush=True)
    print(total)
