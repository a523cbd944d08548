"""The actor on a node. It holds one worker process, and what it says ends in Ray's log of it."""

from __future__ import annotations

import socket
import subprocess
from importlib.metadata import version

from mlx_server.schemas.internal import messages
from mlx_server.workers.cluster.orders import Address, Admitted, Place
from mlx_server.workers.cluster.tls import make_identity
from mlx_server.workers.parent.environment import child_environment
from mlx_server.workers.parent.starts import WORKER, bury, spawn

PACKAGES = ("mlx-server", "mlx", "mlx-lm")


class VersionsDiffer(Exception):  # noqa: N818 - named for the fact
    """Raised when a node has other versions than the front end."""


def versions() -> dict[str, str]:
    """Of what has to be the same everywhere."""
    return {name: version(name) for name in PACKAGES}


class Agent:
    """Ray makes one for each replica, and another where one has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, order: Place, expected: dict[str, str]) -> Address:
        """A worker that waits to be called, in the place of the one before, which is ended whatever it does.

        Raises OSError or VersionsDiffer.
        """
        from ray import get_runtime_context
        from ray.util import get_node_ip_address

        if versions() != expected:
            raise VersionsDiffer(f"a node has {versions()}, the front end {expected}: they have to be the same")
        self.end()
        own, host = make_identity(), get_node_ip_address()
        with socket.create_server((host, 0)) as listener:
            words = order.wanted.words(order.model_type)
            env = child_environment(threads=order.wanted.threads)
            self._process = spawn(WORKER, listener, *words, env=env, stdin=subprocess.PIPE)
            port = listener.getsockname()[1]
        body = messages.encode(Admitted(own, order.certificate))
        assert self._process.stdin is not None
        self._process.stdin.write(len(body).to_bytes(4, "big") + body)
        self._process.stdin.flush()  # and stays open: its end is the worker's
        return Address(order.number, host, port, own.certificate, get_runtime_context().get_node_id())

    def end(self) -> None:
        """No process is left after this."""
        if self._process is not None:
            with self._process:
                bury(self._process)
            self._process = None
