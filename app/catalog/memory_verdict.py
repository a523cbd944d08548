"""What people are told about memory."""

from __future__ import annotations

GIGABYTE = 1 << 30


def fits_message(available: int, required: int) -> str:
    """Whether there is enough; both are bytes."""
    verdict = "✅ Compatible" if required <= available else "❌ Insufficient memory"
    return f"{verdict} - {available / GIGABYTE:.1f}GB available, {required / GIGABYTE:.1f}GB required"
