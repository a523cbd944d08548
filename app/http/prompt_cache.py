"""`X-Prompt-Cache`: a prompt that can't be kept for the conversation's next turn, told in the head of its answer."""

from __future__ import annotations

HEADER = "X-Prompt-Cache"
MEBIBYTE = 1 << 20


def prompt_cache_header(needed_and_available: tuple[int, int] | None) -> dict[str, str]:
    """The header for the bytes that a prompt needs and those that there are; none for one that can be kept."""
    if needed_and_available is None:
        return {}
    needed, available = (f"{count / MEBIBYTE:.1f} MiB" for count in needed_and_available)
    return {HEADER: f"not kept whole (needs {needed} of {available})"}
