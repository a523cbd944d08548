"""The servers that are compared, each as a command: this one, and others with the same API on the same model."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from types import TracebackType
from typing import Self

from lib.processes import BENCH, ServerProcess

from mlx_server.workers.parent.environment import child_environment

OURS = "mlx-server"
PLAIN = "as installed"
SEPARATE = ("rapid-mlx", "vllm-mlx")
"""Those that `make bench-peers` gives environments of their own: they ask for other versions of mlx-lm and mlx-vlm."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs: `model` is what requests call its model (None: nothing); `process` is None where another
    started it."""

    name: str
    url: str
    model: str | None
    process: ServerProcess | None = None

    def cpu_s(self) -> float | None:
        """Processor time so far, with that of all it has started."""
        return None if self.process is None else sum(self.process.cpu_seconds())


@dataclass(frozen=True, slots=True)
class Command:
    """How one is started, without its port; `ready_path` answers 200 once it serves."""

    name: str
    words: tuple[str, ...]
    model: str | None
    ready_path: str


def with_blas(words: Sequence[str]) -> tuple[str, ...]:
    """The same command with the BLAS that this server's workers get."""
    environment = child_environment()
    chosen = {name: environment[name] for name in ("LD_PRELOAD", "OPENBLAS_NUM_THREADS") if name in environment}
    return ("env", *(f"{name}={value}" for name, value in chosen.items()), *words)


def alike(commands: Sequence[Command]) -> list[Command]:
    """The same commands with the BLAS that this server's workers get."""
    return [replace(command, words=with_blas(command.words)) for command in commands]


def ours(folder: Path, rows: int, *more: str) -> Command:
    """This server; it preloads the BLAS in its worker by itself."""
    launch = ("launch", "--model-path", str(folder), "--max-concurrency", str(rows), *more)
    return Command(OURS, (sys.executable, "-m", "mlx_server.app", *launch), None, "/health/ready")


def earlier(folder: Path, rows: int, checkout: Path, *more: str) -> Command:
    """The server of another checkout, with an environment in its .venv."""
    words = ours(folder, rows, *more).words
    python = str(checkout.resolve() / ".venv" / "bin" / "python")
    return Command("before", ("env", f"HOME={folder.parent}", python, *words[1:]), None, "/health/ready")


def others(folder: Path, *, embeddings: bool = False) -> list[Command]:
    """The other servers in this environment, as their READMEs start them. They stay off the hub."""
    python = ("env", "HF_HUB_OFFLINE=1", sys.executable, "-m")
    flag = "--embedding-model" if embeddings else "--model"
    vlm = Command("mlx_vlm.server", (*python, "mlx_vlm.server", flag, str(folder)), str(folder), "/health")
    lm = Command("mlx_lm.server", (*python, "mlx_lm", "server", "--model", str(folder)), "default_model", "/health")
    return [vlm] if embeddings else [lm, vlm]


def program(name: str) -> Path:
    """The command of one that has an environment of its own; it need not exist."""
    return BENCH.parent / f".venv-{name}" / "bin" / name


def separate(folder: Path, home: Path, names: Sequence[str] = SEPARATE) -> list[Command]:
    """Those of `names` that have an environment, as their READMEs start them for several clients. They write nothing
    outside `home`, tell nobody of their use, and stay off the hub."""
    environment = ("env", f"HOME={home}", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1")
    more = {"vllm-mlx": ("--continuous-batching", "--offline")}
    return [
        Command(
            name, (*environment, str(program(name)), "serve", str(folder), *more.get(name, ())), str(folder), "/health"
        )
        for name in names
        if program(name).exists()
    ]


def version_of(name: str) -> str:
    """The version of one that has an environment of its own, and of what it computes with."""
    [packages] = program(name).parents[1].glob("lib/python*/site-packages")
    own, *with_it = (next(iter(distributions(name=each, path=[str(packages)]))) for each in (name, "mlx", "mlx-lm"))
    return f"{own.version} on " + ", ".join(f"{each.name} {each.version}" for each in with_it)


class Running:
    """In a `with` block: all of these servers, started one after the other, and those that run already."""

    def __init__(self, commands: Sequence[Command], scratch: Path, extra: Sequence[Peer] = ()) -> None:
        self._commands = commands
        self._scratch = scratch
        self.peers = list(extra)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            for command in self._commands:
                log = self._scratch / f"{command.name.replace(' ', '-')}-{len(self.peers)}.log"
                server = stack.enter_context(ServerProcess(command.words, log, command.ready_path))
                self.peers.append(Peer(command.name, server.url, command.model, server))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stack.close()
