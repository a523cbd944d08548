from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from mlx_server.app.cli.launch_options import checked_cluster
from mlx_server.app.config.cluster import cluster_problem
from mlx_server.app.config.config_file import ConfigError, read_config, server_of
from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.schemas.internal.hosts import Host, Hosts

SCRIPTED = ModelSettings("scripted", "scripted", "one")


def test_addresses_are_rays() -> None:
    assert checked_cluster("auto") == "auto"
    assert checked_cluster("ray://head:10001") == "ray://head:10001"
    for wrong in ("head:10001", "ray://head", "AUTO", ""):
        with pytest.raises(typer.BadParameter, match=r"write ray://HOST:PORT, or auto"):
            checked_cluster(wrong)


def test_the_file_may_name_the_cluster(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[server]\ncluster = "ray://head:10001"\n')
    assert server_of(read_config(file), file, Settings(), frozenset()).cluster == "ray://head:10001"
    assert server_of(read_config(file), file, Settings(cluster="auto"), frozenset({"cluster"})).cluster == "auto"
    file.write_text('[server]\ncluster = "head"\n')
    with pytest.raises(ConfigError, match="cluster"):
        read_config(file)


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("hosts", Hosts((Host("127.0.0.1"), Host("other")), "ring"), "--hosts"),
        ("adapter_path", Path("a"), "--adapter-path"),
        ("adapter_dir", Path("a"), "--adapter-dir"),
        ("draft_model", "a", "--draft-model"),
        ("prompt_cache_dir", Path("a"), "--prompt-cache-dir"),
        ("type", "audio", "--model-type audio"),
        ("type", "image", "--model-type image"),
    ],
)
def test_what_does_not_go_with_a_cluster_is_named(field: str, value: Any, flag: str) -> None:
    settings = Settings(models=(SCRIPTED,), cluster="auto")
    assert cluster_problem(settings) is None
    problem = cluster_problem(replace(settings, models=(SCRIPTED, replace(SCRIPTED, **{field: value}))))
    assert problem is not None
    assert problem.startswith(f"one: {flag} does not go with --cluster")


def test_the_memory_of_nodes_is_not_this_machines() -> None:
    problem = cluster_problem(Settings(models=(SCRIPTED,), cluster="auto", memory_limit_bytes=1))
    assert problem is not None
    assert "mlx_memory" in problem
