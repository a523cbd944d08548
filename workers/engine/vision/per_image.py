"""Calls for several pictures as one call for each, and the results as those of one call."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

ARRAYS = (mx.array, np.ndarray)


@dataclass(frozen=True)
class Call:
    """What a function is called with; the pixels come first."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def pieces(call: Call) -> list[Call] | None:
    """One call for each picture (or tile of one); None where they can't be told apart.

    Pictures lie along the first axis, one number each, or, where there is a grid [pictures, 3] of times, heights and
    widths, as their product of patches. What else is given has one entry for each picture or each patch.
    """
    if not call.args or not isinstance(call.args[0], mx.array) or call.args[0].ndim < 2:
        return None
    rows = call.args[0].shape[0]
    grid = next((value for value in (*call.args[1:], *call.kwargs.values()) if is_grid(value)), None)
    sizes = [1] * rows if grid is None else [prod(row) for row in grid.tolist()]
    if sum(sizes) != rows:
        return None
    bounds = list(pairwise(accumulate(sizes, initial=0)))
    values = (*call.args, *call.kwargs.values())
    columns = [each for value in values if (each := split(value, bounds, rows)) is not None]
    if len(columns) < len(values):
        return None
    many = len(call.args)
    return [Call(row[:many], dict(zip(call.kwargs, row[many:], strict=True))) for row in zip(*columns, strict=True)]


def is_grid(value: Any) -> bool:
    """An array of three whole numbers for each picture."""
    if not isinstance(value, ARRAYS) or value.ndim != 2 or value.shape[1] != 3:
        return False
    return mx.issubdtype(value.dtype, mx.integer) if isinstance(value, mx.array) else value.dtype.kind in "iu"


def split(value: Any, bounds: list[tuple[int, int]], rows: int) -> list[Any] | None:
    """An argument for each of the pictures; None for one that can't be split."""
    if isinstance(value, ARRAYS) and value.ndim:
        if value.shape[0] == rows:
            return [value[start:end] for start, end in bounds]
        return [value[i : i + 1] for i in range(len(bounds))] if value.shape[0] == len(bounds) else None
    if isinstance(value, list | tuple):
        return [value[i : i + 1] for i in range(len(bounds))] if len(value) == len(bounds) else None
    return [value] * len(bounds)


def concatenated(results: list[Any]) -> Any:
    """Results one after the other along the first axis, whatever lists they come in."""
    if len(results) == 1:
        return results[0]

    def leaf(*leaves: Any) -> Any:
        return mx.concatenate(list(leaves)) if isinstance(leaves[0], mx.array) else leaves[0]

    return tree_map(leaf, results[0], *results[1:])


def joined(each: list[Call]) -> Call:
    """One call for several pictures, of the calls for each of them."""
    args = [as_one(column) for column in zip(*(one.args for one in each), strict=True)]
    return Call(tuple(args), {name: as_one(tuple(one.kwargs[name] for one in each)) for name in each[0].kwargs})


def apart(result: Any, sizes: list[int]) -> list[Any] | None:
    """The result of one call for several pictures as that of a call for each; None where they can't be told apart.
    `sizes` are what each has along the first axis of what was given, which the result shares out alike."""
    whole = sum(sizes)
    lengths = {len(leaf) if leaf.ndim else 0 for _, leaf in tree_flatten(result) if isinstance(leaf, mx.array)}
    if any(not length or length * size % whole for length in lengths for size in sizes):
        return None
    bounds = list(pairwise(accumulate(sizes, initial=0)))

    def part(start: int, end: int) -> Any:
        def leaf(array: Any) -> Any:
            if not isinstance(array, mx.array):
                return array
            return array[start * len(array) // whole : end * len(array) // whole]

        return tree_map(leaf, result)

    return [part(start, end) for start, end in bounds]


def of_pictures(arrays: dict[str, Any], count: int, first: int, end: int) -> dict[str, Any] | None:
    """The arrays of `count` pictures for those from `first` to before `end` only; None where they can't be told
    apart."""
    if first == end or (first, end) == (0, count):
        return arrays if first < end else {}
    named = list(arrays)
    named.sort(key=lambda name: name != "pixel_values")
    each = pieces(Call(tuple(arrays[name] for name in named), {}))
    if each is None or len(each) != count:
        return None
    columns = zip(*(piece.args for piece in each[first:end]), strict=True)
    return dict(zip(named, map(as_one, columns), strict=True))


def as_one(column: tuple[Any, ...]) -> Any:
    """An argument that was split, put together again."""
    if isinstance(column[0], mx.array):
        return mx.concatenate(list(column))
    if isinstance(column[0], np.ndarray):
        return np.concatenate(column)
    return [one for each in column for one in each] if isinstance(column[0], list | tuple) else column[0]
