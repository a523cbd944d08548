"""In how many bits KV states are held."""

from __future__ import annotations

from itertools import groupby

import msgspec

WIDTHS = ("4", "5", "6", "8")
"""What MLX quantises to with little loss."""

MOST_LAYERS = 1000
"""More than any model has."""


class StateBits(msgspec.Struct, frozen=True, array_like=True):
    """Bits of each number in KV states: one width for all layers, or one for each."""

    widths: tuple[int, ...]

    @classmethod
    def parse(cls, given: str) -> StateBits:
        """From '8', or '4x12,8x6,4x12' for 12 layers of 4 bits, 6 of 8 and 12 of 4. Raises ValueError, whose text says
        what is allowed."""
        widths: list[int] = []
        for run in given.split(","):
            width, times, layers = run.partition("x")
            count = int(layers) if layers.isdecimal() else 0 if times else 1
            if width not in WIDTHS or not count or len(widths) + count > MOST_LAYERS:
                raise ValueError(f"{given!r} is none of {', '.join(WIDTHS)}, nor bits of layers such as 4x12,8x6,4x12")
            widths += [int(width)] * count
        return cls(tuple(widths))

    def of_layers(self, count: int) -> tuple[int, ...]:
        """The bits of each of `count` layers. Raises ValueError if they are for another number of layers."""
        if len(self.widths) == 1:
            return self.widths * count
        if len(self.widths) != count:
            raise ValueError(f"{self} is for {len(self.widths)} layers, and this model has {count} to be quantised")
        return self.widths

    def __str__(self) -> str:
        runs = [(width, len(list(same))) for width, same in groupby(self.widths)]
        return ",".join(str(width) if layers == 1 else f"{width}x{layers}" for width, layers in runs)
