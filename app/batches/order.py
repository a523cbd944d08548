"""The order of a batch's lines: those that begin alike meet, so that what is known of a prompt is not read again."""

from __future__ import annotations

from hashlib import blake2b

BEGINNINGS = (512, 2048, 8192)
"""Bytes of prompts by which they are compared; a shorter one has no beginning worth a meeting."""

DIGEST_BYTES = 8


def beginning_of(prompt: bytes) -> bytes:
    """A digest for each of the BEGINNINGS that a prompt is long enough for: prompts that begin alike have digests that
    do, and lie side by side once they are sorted."""
    lengths = (length for length in BEGINNINGS if len(prompt) >= length)
    return b"".join(blake2b(prompt[:length], digest_size=DIGEST_BYTES).digest() for length in lengths)
