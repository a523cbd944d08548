"""The part of a language model before its output layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

INNER = ("model", "language_model.model", "backbone", "transformer")
"""Where models keep all that comes before the output layer."""


def inner_part(model: Any) -> Any:
    """What computes a model's last hidden states; None for a model whose parts have other names."""
    return next((found for name in INNER if callable(found := look_up(model, name))), None)


def look_up(model: Any, name: str) -> Any:
    """A part of a model by its path; None if there is none."""
    try:
        return attrgetter(name)(model)
    except AttributeError:
        return None


@contextmanager
def only_last(inner: Any, rows: int) -> Iterator[None]:
    """A context in which the inner part of a model returns hidden states of its last `rows` rows, so that the output
    layer computes nothing for the others."""
    kind: Any = type(inner)

    class Shortened(kind):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return super().__call__(*arguments, **options)[-rows:]

    inner.__class__ = Shortened
    try:
        yield
    finally:
        inner.__class__ = kind
