"""Writes docs/models.md: which types of models are computed as transformers computes them. `make fidelity` runs it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from fidelity.outcomes import CASES, Outcome, State, outcomes  # noqa: E402

PAGE = TESTS.parent / "docs" / "models.md"
STATES: tuple[State, ...] = ("equal", "announced", "refused", "silent")
INTRODUCTION = """\
# Models, compared

Made by `make fidelity`: tiny models with random weights, as transformers saves them, computed by it on torch and by
this server's engine, logits compared near a prompt's beginning, in its midst and beyond the length of the first
training. Each type is tried with the config as transformers 5 and as transformers 4 write it, with every scaling of
rotary positions that transformers takes for it, with a sliding window, and with an output layer of its own, a tied one
and one that the config says nothing of.

*Equal* is within a thousandth of the largest logit. *Announced*: computed differently, and the server says so when the
model loads. *Refused*: it does not start, with the reason. Nothing differs silently: a test keeps that so.
`mlx-server models show --unread MODEL` lists what of a model's config nobody looks at.
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


def page(found: dict[str, list[Outcome]]) -> str:
    """The whole."""
    counts = Counter(outcome.state for some in found.values() for outcome in some)
    assert not counts["silent"], "a difference that nobody is told of"
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlx", "mlx-lm", "transformers"))
    lines = [
        INTRODUCTION,
        f"{versions}: {len(found)} types, {sum(counts.values())} variants,"
        f" {', '.join(f'{counts[state]} {state}' for state in STATES)}.",
        "",
        "| type | equal | announced | refused |",
        "| --- | --- | --- | --- |",
        *(row(model_type, some) for model_type, some in found.items()),
        "",
        "## What is not equal",
        "",
        *(line for model_type, some in found.items() for line in rest(model_type, some)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compute all, and write the page."""
    found = {}
    for model_type in types():
        with tempfile.TemporaryDirectory() as scratch:
            found[model_type] = list(outcomes(model_type, Path(scratch)))
        print(row(model_type, found[model_type]), flush=True)
    PAGE.write_text(page(found))
    print(json.dumps(Counter(outcome.state for some in found.values() for outcome in some)))


if __name__ == "__main__":
    main()
