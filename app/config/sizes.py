"""Numbers of bytes and of parameters, as people say them."""

from __future__ import annotations


def size(count: float) -> str:
    """A number of bytes, rounded."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def people_count(parameters: int) -> str:
    """A number of parameters as people say it: 135M, 7.2B, 70B."""
    millions = parameters / 1e6
    if millions >= 1000:
        return f"{millions / 1000:.1f}".removesuffix(".0") + "B"
    return f"{millions:.3g}M"
