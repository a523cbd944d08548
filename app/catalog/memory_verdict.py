"""What people are told about memory."""

from __future__ import annotations

from mlx_server.app.machine.sizes import GIBIBYTE


def fits_message(available: int, required: int) -> str:
    """Whether there is enough; both are bytes."""
    verdict = "✅ Compatible" if required <= available else "❌ Insufficient memory"
    return f"{verdict} - {available / GIBIBYTE:.1f}GB available, {required / GIBIBYTE:.1f}GB required"
