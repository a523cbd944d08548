"""In how many bits KV states are held."""

from __future__ import annotations

import msgspec

WIDTHS = (4, 5, 6, 8)
"""What MLX quantises to with little loss."""

SHARE_OF_ENDS = 8
"""One layer in this many, at least one, is counted to the first layers, and as many to the last."""


class StateBits(msgspec.Struct, frozen=True, array_like=True):
    """Bits of each number in the KV states of `most` layers, and of the first and last ones, the `ends`: an error there
    does most harm."""

    most: int
    ends: int

    @classmethod
    def parse(cls, given: str) -> StateBits:
        """From '8', or '4:8' with those of the ends. Raises ValueError, whose text says what is allowed."""
        most, _, ends = given.partition(":")
        widths = [str(width) for width in WIDTHS]
        if most not in widths or (ends or most) not in widths or given.endswith(":"):
            raise ValueError(f"{given!r} is none of {', '.join(widths)}, nor two of them such as 4:8")
        return cls(int(most), int(ends or most))

    def of_layers(self, count: int) -> list[int]:
        """The bits of each of `count` layers."""
        share = max(1, count // SHARE_OF_ENDS)
        return [self.ends if min(number, count - 1 - number) < share else self.most for number in range(count)]

    def __str__(self) -> str:
        return str(self.most) if self.most == self.ends else f"{self.most}:{self.ends}"
