"""What processes hold in memory."""

from __future__ import annotations

import contextlib


def resident_bytes(pid: int) -> int:
    """The resident memory of a process and of all that it has started; 0 if it is gone."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total
