"""The machines that one model is spread over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Backend = Literal["ring", "jaccl", "jaccl-ring", "nccl", "mpi"]
"""MLX's ways of moving arrays between processes."""

Name = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[^-\s][^\s]*$")]
"""A host's, or an address; ssh takes it for no option."""


class Host(msgspec.Struct, frozen=True):
    """A machine of MLX's host file: the name for ssh, its addresses, and its RDMA devices towards each other host."""

    ssh: Name
    ips: tuple[Name, ...] = ()
    rdma: tuple[str | tuple[str, ...] | None, ...] = ()


class Hosts(msgspec.Struct, frozen=True):
    """One host for each rank, the first of them this machine. `envs` are NAME=VALUE of all ranks; a rank that was
    silent for `heartbeat_s` seconds is given up."""

    hosts: tuple[Host, ...]
    backend: Backend
    envs: tuple[str, ...] = ()
    heartbeat_s: float = 30.0

    @property
    def environment(self) -> dict[str, str]:
        """`envs` by their names."""
        return dict(entry.partition("=")[::2] for entry in self.envs)


def sharing(hosts: tuple[Host, ...], rank: int) -> int:
    """How many ranks are on a rank's machine."""
    return sum(host.ssh == hosts[rank].ssh for host in hosts)
