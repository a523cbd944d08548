"""What a process has started."""

from __future__ import annotations

import psutil


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """All that a process has started, and what these have; none where the system hides whose children processes are."""
    try:
        return list(process.children(recursive=True))
    except psutil.AccessDenied:
        return []
