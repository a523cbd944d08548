"""Tells the service manager that started this process how it is: systemd's sd_notify protocol."""

from __future__ import annotations

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def notify(state: str, address: str | None = None) -> None:
    """Send `READY=1` and the like to `address`, where the variable of the environment says by default; nothing is sent
    where nobody listens."""
    address = address if address is not None else os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(state.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
        except OSError:
            return  # whoever started this has gone
