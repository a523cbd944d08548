"""How much reasoning clients may ask for: agents come with new words for it, which change nothing and are named."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From the least to the most."""

Effort = Annotated[str, Meta(extra_json_schema={"examples": list(EFFORTS)})]


def checked_effort(asked: str | None, param: str) -> tuple[str | None, tuple[str, ...]]:
    """The effort that is asked for, if there is such a one; else its path, as of what changes nothing."""
    return (asked, ()) if asked is None or asked in EFFORTS else (None, (param,))
