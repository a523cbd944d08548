"""Which host files are taken, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from support.tiny.folders import make

from mlx_server.app.cli.launch_flags import LaunchFlags
from mlx_server.app.cli.launch_options import BackendName
from mlx_server.app.cli.launch_settings import settings_of_flags
from mlx_server.app.config.config_file import ConfigError, models_of, read_config
from mlx_server.app.config.hosts_file import HostsError, read_hosts
from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.fleet.memory_estimate import MemoryEstimate, part_of
from mlx_server.schemas.internal.hosts import Host, Hosts, sharing

HERE = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}
THERE = {"ssh": "elsewhere.example", "ips": ["192.0.2.7"]}


def _written(folder: Path, content: Any) -> Path:
    path = folder / "hosts.json"
    path.write_text(json.dumps(content))
    return path


def test_a_list_of_hosts_is_a_host_file(tmp_path: Path) -> None:
    found = read_hosts(_written(tmp_path, [HERE, THERE]), "ring")
    assert found == Hosts((Host("127.0.0.1", ("127.0.0.1",)), Host("elsewhere.example", ("192.0.2.7",))), "ring")
    assert [sharing(found.hosts, rank) for rank in (0, 1)] == [1, 1]


def test_this_machine_is_known_by_its_address(tmp_path: Path) -> None:
    named = {"ssh": "mac1.example", "ips": ["127.0.0.1"]}
    found = read_hosts(_written(tmp_path, {"hosts": [named, HERE], "backend": "ring", "envs": ["A=b"]}))
    assert [host.ssh for host in found.hosts] == ["127.0.0.1"] * 2
    assert found.envs == ("A=b",)
    assert sharing(found.hosts, 0) == 2


def test_mpi_needs_no_addresses(tmp_path: Path) -> None:
    found = read_hosts(_written(tmp_path, [{"ssh": "127.0.0.1"}, {"ssh": "elsewhere.example"}]), "mpi")
    assert found == Hosts((Host("127.0.0.1"), Host("elsewhere.example")), "mpi")


def test_a_given_backend_wins(tmp_path: Path) -> None:
    hosts = [{**HERE, "rdma": [None, "rdma_en2"]}, {**THERE, "rdma": ["rdma_en2", None]}]
    assert read_hosts(_written(tmp_path, {"hosts": hosts, "backend": "ring"}), "jaccl").backend == "jaccl"


@pytest.mark.parametrize(
    ("content", "backend", "why"),
    [
        ([HERE], None, "two hosts at least"),
        ([THERE, HERE], None, "the first host has to be this machine"),
        ([HERE, {"ssh": "elsewhere.example"}], "ring", "the addresses (`ips`) of each host"),
        ([HERE, THERE], "jaccl", "needs `rdma` of each host"),
        ({"hosts": [HERE, HERE], "backend": "gloo"}, None, "the backend is 'gloo', allowed are ring"),
        ([HERE, {"ssh": "-oProxyCommand=x", "ips": ["192.0.2.7"]}], "ring", "is no host file of MLX's"),
        ({"nodes": []}, None, "is no host file of MLX's"),
    ],
)
def test_a_host_file_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, content: Any, backend: str | None, why: str
) -> None:
    with pytest.raises(HostsError) as caught:
        read_hosts(_written(tmp_path, content), backend)
    assert why in str(caught.value)
    assert "hosts.json" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ('backend = "ring"', "`backend` is for a model on several `hosts`"),
        ('hosts = "hosts.json"\nreplicas = 2', "one worker"),
    ],
)
def test_a_models_table_names_its_hosts(tmp_path: Path, keys: str, why: str) -> None:
    _written(tmp_path, [HERE, HERE])
    config = tmp_path / "models.toml"
    config.write_text('[[model]]\npath = "scripted"\ntype = "scripted"\nhosts = "hosts.json"\nbackend = "ring"\n')
    [model] = models_of(read_config(config), config, ModelSettings(""))
    assert model.hosts is not None
    assert len(model.hosts.hosts) == 2
    config.write_text(f'[[model]]\npath = "scripted"\ntype = "scripted"\n{keys}\n')
    with pytest.raises(ConfigError) as caught:
        models_of(read_config(config), config, ModelSettings(""))
    assert why in str(caught.value)


def test_flags_name_the_hosts_of_one_model(tmp_path: Path) -> None:
    hosts, folder = _written(tmp_path, [HERE, HERE]), str(make(tmp_path / "llama"))
    [model] = settings_of_flags(LaunchFlags(model_path=folder, hosts=hosts, backend=BackendName.RING)).models
    assert model.hosts is not None
    assert model.type == "lm"
    for flags, why in (
        (LaunchFlags(model_path=folder, backend=BackendName.RING), "several --hosts"),
        (LaunchFlags(model_path=folder, hosts=hosts, replicas=2), "one worker"),
        (LaunchFlags(model_path=folder, model=[folder], hosts=hosts), "for one model"),
    ):
        with pytest.raises(typer.BadParameter, match=why):
            settings_of_flags(flags)


def test_a_machine_needs_memory_for_its_own_ranks() -> None:
    whole = MemoryEstimate(800, 400, 100, "float32", 80)
    assert part_of(whole, here=1, ranks=4) == MemoryEstimate(200, 100, 100, "float32", 20)
    assert part_of(whole, here=2, ranks=4) == MemoryEstimate(400, 200, 200, "float32", 20)
