"""Texts as opaque strings, for clients that hand back what they were not shown."""

from __future__ import annotations

import base64
import binascii

SEAL = "mlx1:"


def seal(text: str) -> str:
    """A text as one opaque string. Not a secret: the text is in the open."""
    return SEAL + base64.b64encode(text.encode()).decode()


def unsealed(sealed: str) -> str | None:
    """What was sealed; None if it was not sealed here."""
    if not sealed.startswith(SEAL):
        return None
    try:
        return base64.b64decode(sealed.removeprefix(SEAL), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
