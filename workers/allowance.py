"""What the operating system still lets this process have."""

from __future__ import annotations

import ctypes
import resource

import psutil

from mlx_server.workers.cgroup import memory_limit


class MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; `fordblks` are the free bytes of all its arenas."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


def free_heap_bytes() -> int:
    """Bytes of the address space that the C library keeps for the next allocations; 0 where it does not say."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallInfo
    return int(mallinfo().fordblks)


class Allowance:
    """Limits of the process's address space (RLIMIT_AS, which may change while it runs) and of its control group."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._grouped = memory_limit() is not None

    def left_bytes(self) -> int | None:
        """Bytes that may still be taken; None without a limit. Beyond it allocations fail, or the process is killed."""
        left = []
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            left.append(most - int(self._process.memory_info().vms) + free_heap_bytes())
        if self._grouped and (found := memory_limit()) is not None:
            left.append(found.limit_bytes - found.used_bytes)
        return min(left, default=None)
