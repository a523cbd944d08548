"""What KV states of few bits hold and lose: `python bench/kv/quality.py MODEL [--needle 8000]` prints JSON, a line for
each number of bits.

That is: bytes of the states of a token, perplexity of the README's text, and what becomes of numbers that are told once
in a text of so many tokens and asked for at its end: whether the model says them, and their loss in nats per token.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.inside import become_a_worker

ROOT = Path(__file__).resolve().parents[2]
FULL = "float32"
VARIANTS = (FULL, "8", "4", "8x3,4x24,8x3", "4x12,8x6,4x12")
"""Of SmolLM2's 30 layers: the last two have 8 bits for six of them, at the ends or in the middle."""

CHUNK = 512
NEEDLES = {"Bergen": "48213", "Lima": "90657", "Kobe": "31874", "Accra": "75029"}
"""Told in this order, one in each part of the text."""


def read(model: Any, ids: list[int], cache: list[Any]) -> Iterator[Any]:
    """Logits [T, V] of chunk after chunk, computed if they are looked at."""
    import mlx.core as mx

    for start in range(0, len(ids), CHUNK):
        yield model(mx.array([ids[start : start + CHUNK]]), cache=cache)[0]
        mx.eval([layer.state for layer in cache])
        mx.clear_cache()


def losses(logits: Any, ids: list[int]) -> list[float]:
    """Of ids [T], in nats, by the logits [T, V] before each."""
    import mlx.core as mx

    chosen = mx.take_along_axis(logits, mx.array(ids)[:, None], axis=-1)[:, 0]
    return list((mx.logsumexp(logits, axis=-1) - chosen).tolist())


def perplexity(model: Any, ids: list[int]) -> float:
    """Of a text, read chunk by chunk through a cache."""
    from mlx_lm.models.cache import make_prompt_cache

    found, start = [], 1
    for logits in read(model, ids, make_prompt_cache(model)):
        targets = ids[start : start + len(logits)]
        found += losses(logits[: len(targets)], targets)
        start += len(logits)
    return math.exp(sum(found) / len(found))


def haystack(tokenizer: Any, tokens: int) -> list[int]:
    """This repository's texts with all needles, so many tokens."""
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    ids = tokenizer.encode(words, add_special_tokens=False)
    told = [tokenizer.encode(f"\n\nThe number of {name} is {number}.\n\n") for name, number in NEEDLES.items()]
    part = (tokens - sum(map(len, told))) // (len(told) + 1)
    found = ids[:part]
    for place, needle in enumerate(told, 1):
        found += needle + ids[place * part : (place + 1) * part]
    return found


def needles(model: Any, tokenizer: Any, tokens: int) -> list[dict[str, Any]]:
    """What becomes of each."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache, found = make_prompt_cache(model), []
    for _ in read(model, haystack(tokenizer, tokens), cache):
        pass  # only for what it leaves there
    for name, number in NEEDLES.items():
        own, answer = copy.deepcopy(cache), tokenizer.encode(f" {number}")
        question = tokenizer.encode(f"\n\nThe number of {name} is")
        logits = model(mx.array([question + answer]), cache=own)[0, len(question) - 1 : -1]
        said = mx.argmax(logits, axis=-1).tolist() == answer
        loss = losses(logits, answer)
        found.append({"name": name, "found": said, "loss": sum(loss) / len(loss)})
    return found


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--needle", type=int, default=8000)
    parser.add_argument("--bits", nargs="+", default=VARIANTS)
    given = parser.parse_args()
    become_a_worker()
    from mlx_server.schemas.internal.state_bits import StateBits
    from mlx_server.workers.engine.decode.admission import footprint
    from mlx_server.workers.engine.loading.loading import read_model, read_tokenizer
    from mlx_server.workers.engine.runtime import platform
    from mlx_server.workers.handlers.quantised_states import QuantisedStates

    platform.configure()
    for bits in given.bits:
        model, config, _ = read_model(given.model, "auto")
        tokenizer, _ = read_tokenizer(given.model, config)
        if bits != FULL:
            QuantisedStates(model, StateBits.parse(bits), packed=not platform.on_cpu()).hold()
        text = tokenizer.encode((ROOT / "README.md").read_text(encoding="utf-8"))
        found = {
            "bits": bits,
            "bytes": footprint(model).per_token,
            "perplexity": perplexity(model, text),
            "needles": needles(model, tokenizer, given.needle) if given.needle else [],
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
