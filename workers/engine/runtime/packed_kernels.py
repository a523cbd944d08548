"""Products with quantised weights that stay packed, compiled by numba for the processor that is here.

They are read in MLX's layout. A few weights of a row that follow each other are read as one word, and 16 such words
lie in one group: the compiler makes vectors of them, and the product of two vectors is one of 16 weights. What was
compiled is kept for the next start, beside this file or in the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Threads that wait sleep, and need no library that numba's wheel lacks. It takes one thread's calls: the engine's.
numba.config.THREADING_LAYER = "workqueue"

LANES = 16
"""Words that are read together: as many as the widest vectors hold numbers."""

LINES = 4
"""Rows of weights that a thread takes at a time: x is read once for them."""

WORDS: dict[int, type[np.unsignedinteger[Any]]] = {8: np.uint8, 16: np.uint16, 32: np.uint32}

ALONE = 1 << 20
"""Multiplications that one thread does in less time than it takes to wake the others."""

MODES = ("affine", "mxfp4")
"""MLX's names of those that can be read."""

Kernel = Callable[
    [NDArray[Any], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], None
]
"""What `kernel` makes: of words [outputs, words] and so on."""

Unpacker = Callable[[NDArray[Any], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], None]
"""What `unpacker` makes: of words [outputs, words] weights [outputs, inputs]."""


def decoded(code: Any, floats: bool) -> Any:
    """What a weight's code stands for: itself, or a 4-bit float (e2m1 of the OCP Microscaling formats), which is 0,
    0.5, 1, 1.5, 2, 3, 4 or 6, and a sign."""
    if not floats:
        return np.float32(code)
    number = np.float32(code & 7)
    more = max(number - np.float32(4), np.float32(0)) + np.float32(2) * max(number - np.float32(6), np.float32(0))
    return np.float32(-0.5 if code & 8 else 0.5) * (number + more)


value = numba.njit(inline="always")(decoded)


def lines_multiplied(
    block: Any,
    weight: Any,
    scales: Any,
    biases: Any,
    spread: Any,
    sums: Any,
    result: Any,
    bits: int,
    mask: int,
    floats: bool,
    together: int,
    several: int,
) -> None:
    """Write what LINES rows of weights, the `block`th so many, give with all rows of x, which are `spread`.

    What follows the arrays are constants where this is compiled.
    """
    outputs, rows = weight.shape[0], result.shape[0]
    turns, steps, groups, biased = spread.shape[0], spread.shape[1], scales.shape[1], biases.shape[1]
    totals = np.empty((LINES, several, LANES), np.float32)
    for turn in range(turns):
        # One by one: to have all filled at once numba would wake the threads, whatever has to be done.
        for line in range(LINES):
            for number in range(several):
                for lane in range(LANES):
                    totals[line, number, lane] = 0
        for step in range(steps):
            group = step * groups // steps
            for line in range(LINES):
                output = min(block * LINES + line, outputs - 1)
                scale = scales[output, group]
                for lane in range(LANES):
                    word = np.int32(weight[output, step * LANES + lane])
                    for number in range(several):
                        total = np.float32(0)
                        for place in range(together):
                            code = (word >> (bits * place)) & mask
                            total += value(code, floats) * spread[turn, step, number, place, lane]
                        totals[line, number, lane] += scale * total
        for line in range(LINES):
            output = min(block * LINES + line, outputs - 1)
            for number in range(min(several, rows - turn * several)):
                total = np.float32(0)
                for group in range(biased):
                    total += biases[output, group] * sums[turn * several + number, group]
                for lane in range(LANES):
                    total += totals[line, number, lane]
                result[turn * several + number, output] = total


multiply_lines = numba.njit(inline="always")(lines_multiplied)


def weights_in_word(mode: str, bits: int, group_size: int) -> int | None:
    """How many weights the kernel reads as one word; None if it can't read them.

    A code must not cross bytes, and a group must be whole words of all lanes.
    """
    if mode not in MODES:
        return None
    fitting = [count for count in (2, 4, 8) if count * bits in WORDS and group_size % (count * LANES) == 0]
    return max(fitting, default=None)


@cache
def kernel(mode: str, bits: int, together: int, several: int) -> Kernel:
    """The function that multiplies rows of x, `several` at a time, with weights of which a word holds `together`.

    It takes the words [outputs, words], float32 scales and biases [outputs, groups] (biases [outputs, 0]: none), x
    float32 [rows, inputs] in C order, and the result float32 [rows, outputs], which it writes.
    """
    # Only plain values may be closed over: by them numba finds what it has kept.
    floats, mask = mode == "mxfp4", (1 << bits) - 1

    def multiply(weight: Any, scales: Any, biases: Any, x: Any, result: Any) -> None:
        outputs, words = weight.shape
        rows, inputs = x.shape
        steps, turns = words // LANES, (rows + several - 1) // several
        size = inputs // scales.shape[1]
        # In the order in which words are read: for each place in a word, the numbers of all lanes.
        spread = np.empty((turns, steps, several, together, LANES), np.float32)
        sums = np.empty((turns * several, biases.shape[1]), np.float32)
        for turn in range(turns):
            for number in range(several):
                row = min(turn * several + number, rows - 1)
                for step in range(steps):
                    for lane in range(LANES):
                        for place in range(together):
                            spread[turn, step, number, place, lane] = x[row, (step * LANES + lane) * together + place]
                for group in range(sums.shape[1]):
                    total = np.float32(0)
                    for at in range(group * size, (group + 1) * size):
                        total += x[row, at]
                    sums[turn * several + number, group] = total
        blocks = (outputs + LINES - 1) // LINES
        if rows * inputs * outputs > ALONE:
            for block in numba.prange(blocks):
                multiply_lines(
                    block, weight, scales, biases, spread, sums, result, bits, mask, floats, together, several
                )
        else:
            for block in range(blocks):
                multiply_lines(
                    block, weight, scales, biases, spread, sums, result, bits, mask, floats, together, several
                )

    made: Kernel = compiled(multiply, parallel=True)
    return made


@cache
def unpacker(mode: str, bits: int, together: int) -> Unpacker:
    """The function that makes float32 of weights of which a word holds `together`, in the order of `by_places`.

    It takes the words [outputs, words], float32 scales and biases as `kernel` does, and the weights float32
    [outputs, inputs], which it writes. One thread does it: those of a library that multiplies would still be awake.
    """
    floats, mask = mode == "mxfp4", (1 << bits) - 1

    def unpack(weight: Any, scales: Any, biases: Any, result: Any) -> None:
        outputs, words = weight.shape
        groups, biased = scales.shape[1], biases.shape[1] > 0
        size = words // groups
        for output in range(outputs):
            for group in range(groups):
                scale = scales[output, group]
                bias = biases[output, group] if biased else np.float32(0)
                for place in range(together):
                    for at in range(size):
                        code = (np.int32(weight[output, group * size + at]) >> (bits * place)) & mask
                        result[output, (group * together + place) * size + at] = scale * value(code, floats) + bias

    made: Unpacker = compiled(unpack)
    return made


def by_places(x: NDArray[np.float32], groups: int, together: int) -> NDArray[np.float32]:
    """x [rows, inputs] with the numbers of a group in another order: first those for the first weight of each word.
    So the compiler makes vectors of it."""
    rows, inputs = x.shape
    return np.ascontiguousarray(x.reshape(rows, groups, -1, together).swapaxes(2, 3)).reshape(rows, inputs)


def compiled(function: Any, *, parallel: bool = False) -> Any:
    """It by numba, and kept for the next start if there is a folder for that."""
    options = {"parallel": parallel, "fastmath": True, "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
