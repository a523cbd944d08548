"""On the PYTHONPATH of a server: what a worker can still do, tried by it after SIGUSR1, is written to $TRIED as JSON.

0: it could; else the number of the error. $TRY_PORT is a port of this machine, $TRY_FOLDER no folder of the worker's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"


def connect() -> None:
    socket.create_connection(("127.0.0.1", int(os.environ["TRY_PORT"]))).close()


def have_a_child_connect() -> None:
    done = subprocess.run([sys.executable, "-c", CONNECT, os.environ["TRY_PORT"]], capture_output=True)
    if done.returncode:
        raise PermissionError(1, "as its error says")


def send_a_datagram() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def write_outside() -> None:
    Path(os.environ["TRY_FOLDER"], "written").write_text("here")


def delete_outside() -> None:
    Path(os.environ["TRY_FOLDER"], "there").unlink()


TRIED: tuple[Callable[[], None], ...] = (connect, have_a_child_connect, send_a_datagram, write_outside, delete_outside)


def try_all(number: int, frame: object) -> None:
    found = {}
    for one in TRIED:
        try:
            one()
            found[one.__name__] = 0
        except OSError as error:
            found[one.__name__] = error.errno
    scratch = Path(os.environ["TRIED"] + ".scratch")
    scratch.write_text(json.dumps(found))
    scratch.rename(os.environ["TRIED"])


if "TRIED" in os.environ:
    signal.signal(signal.SIGUSR1, try_all)
