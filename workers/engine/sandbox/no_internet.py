"""A filter of system calls (seccomp(2)) that a process gives itself: it opens no socket of the internet any more."""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
import sys

from mlx_server.workers.engine.sandbox.landlock import call, gain_no_privileges

SET_FILTER, ALL_THREADS = 1, 1
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions of classic BPF: load a word, jump if it is equal or not less, return."""

NUMBER_AT, MACHINE_AT, ARGUMENT_AT = 0, 4, 16
"""Where `struct seccomp_data` has the call's number, the machine, and the first argument's lower half."""

FOREIGN = 0x40000000
"""From here on numbers are those of x86's other way to call."""

RING = 425
"""io_uring_setup, alike everywhere: a ring could open sockets without a call."""

KERNELS: dict[str, tuple[int, int, int]] = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
"""How a machine is called in the filter, and its numbers of seccomp and socket."""

ALLOWED_FAMILIES = ("AF_UNIX", "AF_NETLINK")


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def program(machine: int, socket_number: int) -> bytes:
    """The filter's instructions, each `struct sock_filter`: code, jump if true, jump if false, value."""
    families = [int(getattr(socket, name)) for name in ALLOWED_FAMILIES]
    steps = [
        (LOAD, 0, 0, MACHINE_AT),
        (EQUAL, 0, len(families) + 5, machine),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, len(families) + 3, 0, FOREIGN),
        (EQUAL, len(families) + 2, 0, RING),
        (EQUAL, 0, len(families) + 2, socket_number),
        (LOAD, 0, 0, ARGUMENT_AT),
        *((EQUAL, len(families) - index, 0, family) for index, family in enumerate(families)),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def is_possible() -> bool:
    """Whether this system has such filters, and this module knows its numbers."""
    return sys.platform == "linux" and platform.machine() in KERNELS


def open_no_more_connections() -> bool:
    """From now on no thread of this process, and none of the processes that it starts, opens a socket other than a
    local one: for ever. Those that are open stay. False, and nothing changes, where the system can't. Raises OSError.
    """
    if not is_possible():
        return False
    machine, seccomp, socket_number = KERNELS[platform.machine()]
    gain_no_privileges()
    instructions = program(machine, socket_number)
    filter_ = Program(len(instructions) // 8, instructions)
    if thread := call(seccomp, SET_FILTER, ALL_THREADS, ctypes.byref(filter_)):
        raise OSError(errno.EBUSY, f"thread {thread} has a filter of its own")
    return True
