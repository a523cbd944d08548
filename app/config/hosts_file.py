"""`--hosts`: MLX's own host file, as `mlx.distributed_config` writes it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import get_args

import msgspec
import psutil

from mlx_server.schemas.internal.hosts import Backend, Host, Hosts
from mlx_server.workers.parent.environment import mlx_backends

HERE = "127.0.0.1"
"""How this machine is called wherever the file calls it otherwise."""


class HostFile(msgspec.Struct):
    """The file, or a list of its hosts alone."""

    hosts: tuple[Host, ...]
    backend: str = ""
    envs: tuple[str, ...] = ()


class HostsError(ValueError):
    """Raised when a host file can't be used; the message names it and says what is wrong, in one line."""


def read_hosts(path: Path, backend: str | None = None) -> Hosts:
    """The hosts of a file, for a backend that may be given: else the file's, or what suits this machine. Raises
    HostsError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=HostFile | tuple[Host, ...])
    except OSError as error:
        raise HostsError(f"{path} can't be read: {error.strerror or error}") from None
    except msgspec.MsgspecError as error:
        raise HostsError(f"{path} is no host file of MLX's: {error}") from None
    file = found if isinstance(found, HostFile) else HostFile(found)
    backend = backend or file.backend or ("nccl" if "cuda" in mlx_backends() else "ring")
    if backend not in get_args(Backend):
        allowed = ", ".join(get_args(Backend))
        raise HostsError(f"{path}: the backend is {backend!r}, allowed are {allowed}")
    own = own_names()
    hosts = tuple(here(host, own) for host in file.hosts)
    if problem := problem_of(hosts, backend):
        raise HostsError(f"{path}: {problem}")
    return Hosts(hosts, msgspec.convert(backend, Backend), file.envs)


def own_names() -> set[str]:
    """The names and addresses of this machine."""
    addresses = {found.address for interface in psutil.net_if_addrs().values() for found in interface}
    return {HERE, "localhost", "::1", socket.gethostname(), *addresses}


def here(host: Host, own: set[str]) -> Host:
    """A host, under the name HERE if it is this machine."""
    return msgspec.structs.replace(host, ssh=HERE) if own.intersection((host.ssh, *host.ips)) else host


def problem_of(hosts: tuple[Host, ...], backend: str) -> str | None:
    """Why a model can't be spread over these hosts; None if it can."""
    if len(hosts) < 2:
        return "it takes two hosts at least; one that is named twice has two ranks"
    if hosts[0].ssh != HERE:
        return f"the first host has to be this machine, which {hosts[0].ssh!r} is not"
    if (backend != "mpi" and not hosts[0].ips) or (backend == "ring" and not all(host.ips for host in hosts)):
        return f"{backend} needs the addresses (`ips`) of {'each' if backend == 'ring' else 'the first'} host"
    if backend.startswith("jaccl") and not all(len(host.rdma) == len(hosts) for host in hosts):
        return f"{backend} needs `rdma` of each host: its devices towards each other one, and null for itself"
    return None
