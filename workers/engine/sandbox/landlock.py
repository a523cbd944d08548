"""Landlock (docs.kernel.org, userspace-api/landlock): a thread, and all that it starts, writes below some folders only.

Linux has it from 5.13 on, where it was not left out; the version that is needed here, 2, came with 5.19.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls, alike on all processors."""

GET_VERSION, PATH_BENEATH = 1, 1
LEAST_VERSION = 2
"""The first that lets files move between the folders that may be written to."""

WRITES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
"""To write a file; to remove a folder or file; to make a character device, folder, file, socket, FIFO, block device or
link; to move what is there."""

TRUNCATE, TRUNCATE_VERSION = 1 << 14, 3
IN_A_FILE = 1 << 1 | TRUNCATE
"""What may be done to something that is no folder."""

NO_NEW_PRIVILEGES = 38
"""The number of an option of prctl(2)."""


class Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`, as far as version 2 has it."""

    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class PathBeneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def call(number: int, *arguments: object) -> int:
    """A system call that the C library has no function for. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(GET_VERSION))
    except OSError:
        return 0


def gain_no_privileges() -> None:
    """This thread, and what it starts, gets no rights from programs that it runs (set-user-id). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write_only_below(folders: Iterable[Path]) -> bool:
    """From now on this thread, and threads and processes that it starts, change nothing elsewhere: for ever.

    Folders that aren't there are passed over. False, and nothing changes, where the kernel can't. Raises OSError.
    """
    if (kernels := version()) < LEAST_VERSION:
        return False
    handled = WRITES | (TRUNCATE if kernels >= TRUNCATE_VERSION else 0)
    attributes = Ruleset(handled)
    ruleset = call(CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    try:
        for folder in folders:
            allow(ruleset, folder, handled)
        gain_no_privileges()
        call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def allow(ruleset: int, path: Path, rights: int) -> None:
    """Add a folder, or a file, to what may be changed. Raises OSError."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = PathBeneath(rights if path.is_dir() else rights & IN_A_FILE, place)
        call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)
