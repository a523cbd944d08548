"""A server for one command: started where none runs that serves the model, and ended with the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from mlx_server.app.connect.live_states import live_states
from mlx_server.app.connect.running_server import NoServer, ServerProblem, get
from mlx_server.schemas.live import LoadProgress

LOOK_S = 0.1
ENDS_WITHIN_S = 30.0


class ModelId(msgspec.Struct, frozen=True):
    """A model in a server's list."""

    id: str


class ModelIds(msgspec.Struct, frozen=True):
    """What `/v1/models` says."""

    data: tuple[ModelId, ...]


class ModelPath(msgspec.Struct, frozen=True):
    """Where a server has a model, as `/v1/models/{name}` says it."""

    path: str | None = None


def served(root: str, api_key: str | None, timeout_s: float, model: str) -> str | None:
    """What a running server calls a model; None if it does not serve it, or none runs there. Raises ServerProblem if it
    refuses to tell.

    A model on this machine is served under its last part only from the same files.
    """
    try:
        names = {one.id for one in get(f"{root}/v1/models", api_key, timeout_s, ModelIds).data}
        if model in names:
            return model
        name = names_of(model)[-1]
        if name not in names:
            return None
        place = os.path.expanduser(model)
        if not os.path.exists(place):
            return name
        there = get(f"{root}/v1/models/{quote(name)}", api_key, timeout_s, ModelPath).path
    except NoServer:
        return None
    return name if there is not None and Path(there).resolve() == Path(place).resolve() else None


def names_of(model: str) -> tuple[str, str]:
    """What a server may call the model that it was given as this."""
    return model, model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")


@contextmanager
def own_server(model: str, more: list[str], told: Callable[[LoadProgress], None]) -> Iterator[str]:
    """The address of a server of a model, with `more` flags, while it is needed; `told` hears meanwhile how its start
    goes. Raises ServerProblem, with what the server said, if it can't serve it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_server.app", "launch", "--model-path", model, "--port", str(port), *more]
    with ending_in_order(), tempfile.TemporaryFile() as log:
        # Ctrl-C at the terminal is for the command, and not for the server.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            root = f"http://127.0.0.1:{port}"
            while not is_ready(root):
                if process.poll() is not None:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines()
                    raise ServerProblem(lines[-1].removeprefix("Error: ") if lines else "the server ended at once")
                if (progress := load_progress(root)) is not None:
                    told(progress)
                time.sleep(LOOK_S)
            yield root
        finally:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end the command as its last line does."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_progress(root: str) -> LoadProgress | None:
    """How far the start of a server's model is; None while nobody can tell."""
    try:
        with closing(live_states(root, None, 1.0)) as states:
            return next((model.loading for model in next(states).models if model.loading is not None), None)
    except (ServerProblem, StopIteration):
        return None


def is_ready(root: str) -> bool:
    """Whether a server answers requests."""
    try:
        get(f"{root}/health/ready", None, 1.0, dict[str, Any])
    except ServerProblem:
        return False
    return True
