"""Sites whose pages may use the server in a browser."""

from __future__ import annotations

import re

ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s?#@*A-Z]+", re.ASCII)
"""What browsers call a page's origin; `null` are pages from files, `*` all."""


def parse_origin(text: str) -> str:
    """An origin as browsers send it. Raises ValueError."""
    found = text.rstrip("/").lower()
    if ORIGIN.fullmatch(found) is None:
        raise ValueError(f"{found!r} is no origin: write 'https://example.com', with its port, or '*'.")
    return found
