"""Where clients find a server that is behind a proxy."""

from __future__ import annotations

import re

PUBLIC_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?", re.ASCII | re.IGNORECASE)


def parse_public_url(text: str) -> str:
    """An address that paths of the server follow, without a slash at its end. Raises ValueError."""
    if PUBLIC_URL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no address of a server: write 'https://example.com', with its port and path.")
    return text.rstrip("/")
