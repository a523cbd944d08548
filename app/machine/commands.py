"""Small programs of the operating system that tell of the machine."""

from __future__ import annotations

import subprocess

TIMEOUT_S = 5.0


def output_of(*command: str) -> str | None:
    """What a program prints; None if it isn't there, fails or hangs. `command[0]` is an absolute path. Blocks."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
