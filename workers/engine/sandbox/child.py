"""A killable process from the inside: it answers requests on the socket that is its fd 0, within bounds.

Frames are a 4-byte big-endian length and MessagePack. The first answer, an empty map, says that it is ready.
"""

from __future__ import annotations

import io
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def serve(make_ready: Callable[[dict[str, Any]], Answer], memory_bytes: int, cpu_s: int) -> None:
    """Answer until the other side is gone. `make_ready` gets the greeting and gives what answers.

    `memory_bytes` is above what is used then, `cpu_s` per request.
    """
    channel = socket.socket(fileno=0)
    if (greeting := receive(channel)) is None:
        return
    # Opened now: there are children that can open nothing once they are ready.
    with open_usage() as usage:
        answer = make_ready(greeting)
        limit_process(memory_bytes, usage)
    send(channel, {})
    while (request := receive(channel)) is not None:
        limit_cpu(cpu_s)
        send(channel, answer(request))


def open_usage() -> TextIO:
    """Where Linux tells how many pages of address space this process uses; nothing on other systems."""
    return Path("/proc/self/statm").open() if sys.platform == "linux" else io.StringIO()


def limit_process(memory_bytes: int, usage: TextIO) -> None:
    """No files, no core, and no more address space than this above what is used now, where the system tells."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if pages := usage.read().split():
        most = int(pages[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # Elsewhere the parent watches how much memory is used.


def limit_cpu(seconds: int) -> None:
    """From now on so many seconds: an end even where nobody is left to kill this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next request; None when the other side is gone."""
    head = read(channel, 4)
    body = None if head is None else read(channel, int.from_bytes(head, "big"))
    return None if body is None else msgspec.msgpack.decode(body, type=dict[str, Any])


def read(channel: socket.socket, size: int) -> bytearray | None:
    """Exactly `size` bytes; None when the other side is gone."""
    data = bytearray(size)
    there = 0
    while there < size:
        count = channel.recv_into(memoryview(data)[there:])
        if not count:
            return None
        there += count
    return data


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one frame."""
    body = msgspec.msgpack.encode(message)
    channel.sendall(len(body).to_bytes(4, "big"))
    channel.sendall(body)
