"""Writes docs/models.md: which types of models are computed as transformers computes them. `make fidelity` runs it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from fidelity import sentence_outcomes, vision_outcomes  # noqa: E402
from fidelity.compared import Found, written  # noqa: E402
from fidelity.explained import State  # noqa: E402
from fidelity.outcomes import CASES, Outcome, outcomes  # noqa: E402

from mlx_server.workers.folders.unread.compared import FILE  # noqa: E402

PAGE = TESTS.parent / "docs" / "models.md"
RESULTS = TESTS.parent / "bench" / "results"
STATES: tuple[State, ...] = ("equal", "announced", "refused", "silent")
INTRODUCTION = """\
# Models, compared

Made by `make fidelity`: tiny models with random weights, as transformers saves them, computed by it on torch and by
this server's engine, logits compared near a prompt's beginning, in its midst and beyond the length of the first
training. Each type is tried with the config as transformers 5 and as transformers 4 write it, with every scaling of
rotary positions that transformers takes for it, with a sliding window, and with an output layer of its own, a tied one
and one that the config says nothing of. Types that mlx-lm does not know are computed by mlx-vlm. A model of a type that
is not here, or refused in all its variants, is told of when it loads: nobody knows whether it is computed alike.

*Equal* is within a thousandth of the largest logit. *Announced*: computed differently, and the server says so when the
model loads. *Refused*: it does not start, with the reason. Nothing differs silently: a test keeps that so.
`mlx-server models show --unread MODEL` lists what of a model's config nobody looks at.
"""
SEEING = """\
## Models that see

Logits after a picture and of a text alone, computed of the same pixels: how files become pixels is not compared here.
The scalings are linear, yarn and llama3.
"""
BLIND = """\
## The same without their pictures

As mlx-lm computes the text of those that it knows (`--model-type lm`).
"""
EMBEDDING = """\
## Embeddings

Folders saved by sentence-transformers, with each pooling and with dense layers, of which it is given texts of 1 to 150
words. Within a thousandth of the largest number.
"""
RERANKING = """\
## Rerankers

The same for cross-encoders, with each activation that their scores may have.
"""
FIGURES = """\
## Loading, and GGUF files

As [measured](../bench/README.md#loading-and-gguf-files) on {cpu}:

- {model} loads in {load} of the time that it takes without the look for keys that nobody reads (median of {pairs}
  pairs, least to greatest). At most {most_load} is wanted. The look itself takes {look:.3f} s.
- {gguf}: the perplexity of {places} of {tokens:,} tokens of this repository's pages is {here:.2f} here and {there:.2f}
  by llama.cpp, a ratio of {ratio:.4f}. At most {most_gguf:.0%} off is wanted.
"""
REAL = """\
## Real models

What packages carry, computed by this server and by transformers on one text (the README; of vectors, its paragraphs):
`{command}`. transformers reads a .gguf file itself. *Off* is the largest difference as a part of
the largest logit or number; at most {most_off} is wanted, and {most_perplexity:.1%} between the perplexity of a
model and that of the same model saved by transformers 5.

| model | compared | off | perplexity | by transformers | saved by transformers 5 |
| --- | --- | --- | --- | --- | --- |
"""
ROUNDED = """
\\* {model}: embeddings are multiplied by the root of their width, which mlx-lm rounds to bfloat16, in which
Gemma was trained, and transformers to the type of the weights. Rounded as here, transformers is {off:.1e} off with a
perplexity of {perplexity:.3f}; in float32, {before:.1e} with {perplexity_before:.3f}.
"""
MOST = 160
"""Characters of a note."""


def types() -> list[str]:
    """Those that there are cases of."""
    return sorted(file.stem for file in CASES.glob("*.json"))


def row(model_type: str, found: Sequence[Outcome]) -> str:
    """A type's line of the table."""
    counts = Counter(outcome.state for outcome in found)
    return f"| `{model_type}` | {' | '.join(str(counts[state]) for state in STATES[:-1])} |"


def rest(model_type: str, found: Iterable[Outcome]) -> list[str]:
    """What a type has that is not equal, variants of one reason together."""
    by_note = groupby(
        sorted((one for one in found if one.state != "equal"), key=lambda one: (one.state, one.note)),
        key=lambda one: (one.state, one.note),
    )
    return [
        f"- `{model_type}`, {state} ({named(group)}): {note if len(note) <= MOST else note[: MOST - 1] + '…'}"
        for (state, note), group in by_note
    ]


def named(group: Iterable[Outcome]) -> str:
    """The variants, without the form where it does not matter."""
    return "; ".join(sorted({one.variant for one in group}))


def part(introduction: str, versions: str, found: Found) -> str:
    """What is said of one kind of models. Something that differs silently is an error."""
    counts = Counter(outcome.state for some in found.values() for outcome in some)
    assert not counts["silent"], "a difference that nobody is told of"
    lines = [
        introduction,
        f"{versions}: {len(found)} types, {sum(counts.values())} variants,"
        f" {', '.join(f'{counts[state]} {state}' for state in STATES)}.",
        "",
        "| type | equal | announced | refused |",
        "| --- | --- | --- | --- |",
        *(row(model_type, some) for model_type, some in found.items()),
        "",
        "What is not equal:",
        "",
        *(line for model_type, some in found.items() for line in rest(model_type, some)),
    ]
    return "\n".join(lines) + "\n"


def computed(kind: str) -> Found:
    """All outcomes of a kind of models, by type."""
    found: Found = {}
    for model_type in KINDS[kind][0]():
        with tempfile.TemporaryDirectory() as scratch:
            some = list(KINDS[kind][1](model_type, Path(scratch)))
        if some:
            found[model_type] = some
            print(row(model_type, some), flush=True)
    print(json.dumps(Counter(outcome.state for some in found.values() for outcome in some)))
    return found


KINDS: dict[str, tuple[Callable[[], list[str]], Callable[[str, Path], Iterable[Outcome]]]] = {
    "texts": (types, outcomes),
    "pictures": (vision_outcomes.types, vision_outcomes.outcomes),
    "pictures left out": (vision_outcomes.blind_types, vision_outcomes.blind_outcomes),
    "embeddings": (sentence_outcomes.kinds, lambda one, folder: sentence_outcomes.outcomes(one, "embeddings", folder)),
    "rerankers": (sentence_outcomes.kinds, lambda one, folder: sentence_outcomes.outcomes(one, "rerankers", folder)),
}


def figures() -> str:
    """What was measured of loading."""
    load, gguf = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("load_check", "gguf_perplexity"))
    ratio, perplexity = load["summary"]["s"], gguf["perplexity"]
    return FIGURES.format(
        cpu=f"{load['machine']['cpu']}, {load['machine']['cores']} cores",
        model=load["model"],
        pairs=len(load["rows"]) // 2,
        load=f"{ratio['median']:.3f} ({ratio['least']:.2f} to {ratio['greatest']:.2f})",
        most_load=load["most"],
        look=load["summary"]["check_s"]["median"],
        gguf=gguf["model"],
        places=gguf["places"],
        tokens=gguf["tokens"],
        here=perplexity["mlx-server"],
        there=perplexity["llama.cpp"],
        ratio=perplexity["ratio"],
        most_gguf=gguf["most"],
    )


def real() -> str:
    """What was found of real models."""
    found = json.loads((RESULTS / "checkpoints.json").read_text())
    lines, remarks = [REAL.format(**found)], []
    for one in found["rows"]:
        best = one.get("off_with_a_scale_in_bfloat16", one["off"])
        if best != one["off"]:
            remarks.append(
                ROUNDED.format(
                    model=one["model"],
                    off=best,
                    before=one["off"],
                    perplexity=one["perplexity_of_transformers_with_a_scale_in_bfloat16"],
                    perplexity_before=one["perplexity_of_transformers"],
                )
            )
        compared = f"{one['tokens']} tokens" if "tokens" in one else f"{one['texts']} vectors"
        names = ("perplexity", "perplexity_of_transformers", "perplexity_saved_by_transformers_5")
        perplexities = " | ".join(f"{one[name]:.3f}" if name in one else "" for name in names)
        mark = "" if best == one["off"] else r"\*"
        lines.append(f"| {one['model']} | {compared} | {best:.1e}{mark} | {perplexities} |\n")
    return "".join([*lines, *remarks])


def versions(*libraries: str) -> str:
    """Their names and versions."""
    return ", ".join(f"{name} {version(name)}" for name in libraries)


def page() -> str:
    """The whole, computed."""
    vlm = versions("mlx", "mlx-vlm", "transformers")
    sentences = f"{vlm}, sentence-transformers 6.2.0"
    lm = versions("mlx", "mlx-lm", "transformers")
    found = {kind: computed(kind) for kind in KINDS}
    FILE.write_text(written(found))
    return "\n".join(
        (
            part(INTRODUCTION, lm, found["texts"]),
            part(SEEING, vlm, found["pictures"]),
            part(BLIND, lm, found["pictures left out"]),
            part(EMBEDDING, sentences, found["embeddings"]),
            part(RERANKING, sentences, found["rerankers"]),
            real(),
            figures(),
        )
    )


if __name__ == "__main__":
    PAGE.write_text(page())
