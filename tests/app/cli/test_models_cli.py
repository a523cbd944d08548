"""`mlx-server models list` and `show`, as real commands."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.running.servers import ROOT
from support.tiny.folders import make, make_gguf, make_snapshot
from typer.testing import CliRunner, Result

from mlx_server.app.cli.cli import app
from mlx_server.app.registry.registry import FILE, Registry
from mlx_server.app.registry.rows import ModelRow

VISION = {"model_type": "qwen3_vl", "vision_config": {}, "max_position_embeddings": 4096}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def models(tmp_path: Path) -> Run:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlx_server.app", "models", *map(str, arguments)]
        env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "MLX_SERVER_DATA_DIR": str(tmp_path / "data")}
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ, **env})

    return run


def keep(tmp_path: Path, *rows: ModelRow) -> None:
    async def save() -> None:
        registry = Registry.open(tmp_path / "data" / FILE)
        await registry.save_all(rows)
        await registry.record_uses({row.name: (3, datetime(2026, 1, 1, tzinfo=UTC)) for row in rows})
        registry.close()

    asyncio.run(save())


def test_list_shows_what_is_known_what_is_cached_and_what_lies_in_folders(models: Run, tmp_path: Path) -> None:
    keep(tmp_path, ModelRow(name="mine", aliases=("gpt-4",), hub_id="owner/known"))
    make_snapshot(tmp_path / "hub", "owner/known", "abc")
    cached = make_snapshot(tmp_path / "hub", "owner/cached", "abc")
    folder = make(tmp_path / "models" / "m", VISION)
    file = make_gguf(tmp_path / "models" / "[small].gguf")
    listed = models("list", tmp_path / "models")
    assert listed.returncode == 0
    for text in ("mine, gpt-4", "2026-01-01", str(cached), str(folder), str(file), "qwen3_vl", "4,096"):
        assert text in listed.stdout
    found = {one["name"]: one for one in json.loads(models("list", tmp_path / "models", "--json").stdout)}
    assert sorted(found) == ["m", "mine", "owner/cached", "small"]
    assert found["m"]["path"] == str(folder)
    assert (found["m"]["type"], found["m"]["context_length"]) == ("vlm", 4096)
    assert (found["mine"]["use_count"], found["mine"]["version"]) == (3, "abc")
    assert [one["name"] for one in json.loads(models("list", "--json", "--no-hub").stdout)] == ["mine"]


def test_list_has_a_model_once_whatever_launches_have_called_it(models: Run, tmp_path: Path) -> None:
    keep(
        tmp_path,
        ModelRow(name="eyes", path="/models/shapes"),
        ModelRow(name="shapes", aliases=("gpt-4",), path="/models/shapes"),
        ModelRow(name="other", path="/models/other"),
    )
    told = [line.split() for line in models("list").stdout.splitlines()]
    assert [words[:4] for words in told if words[-1:] == ["/models/shapes"]] == [["eyes,", "shapes,", "gpt-4", "lm"]]
    assert len(json.loads(models("list", "--json").stdout)) == 3, "each by its own name"


def test_list_makes_no_registry_and_says_what_is_broken(models: Run, tmp_path: Path) -> None:
    (make(tmp_path / "models" / "broken") / "config.json").write_text("{")
    listed = models("list", tmp_path / "models")
    assert listed.stdout == "No models there.\n"
    assert "config.json can't be read" in listed.stderr
    assert models("list", "--json").stdout == "[]\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["mine", "gpt-4", "owner/known"])
def test_show_finds_a_model_by_any_of_its_names(models: Run, tmp_path: Path, name: str) -> None:
    keep(tmp_path, ModelRow(name="mine", aliases=("gpt-4",), hub_id="owner/known", error_message="it [broke]"))
    folder = make_snapshot(tmp_path / "hub", "owner/known", "abc")
    shown = models("show", name)
    assert shown.returncode == 0
    for text in ("mine, gpt-4", str(folder), "owner/known at abc", "3 times", "it [broke]"):
        assert text in shown.stdout
    assert re.search(r"^ type +lm *$", shown.stdout, re.MULTILINE)


def test_show_reads_a_folder_and_says_how_it_is_served(models: Run, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", VISION)
    assert re.search(r"^ type +vlm *$", models("show", folder).stdout, re.MULTILINE)
    assert json.loads(models("show", folder, "--json").stdout)["architecture"] == "qwen3_vl"


def test_show_says_what_is_no_model(models: Run, tmp_path: Path) -> None:
    nothing = models("show", tmp_path)
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "it has no config.json" in nothing.stderr
    unknown = models("show", "unknown")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "There is no model 'unknown'. `mlx-server models list` shows" in unknown.stderr


def test_model_in_the_hubs_cache_alone_can_be_removed(tmp_path: Path) -> None:
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "MLX_SERVER_DATA_DIR": str(tmp_path / "data")}

    def rm(*arguments: str, answer: str = "") -> Result:
        return CliRunner().invoke(app, ["models", "rm", *arguments], env=env, input=answer)

    snapshot = make_snapshot(tmp_path / "hub", "owner/cached", "abc")
    kept = rm("owner/cached", "--keep-files")
    assert (kept.exit_code, "there is nothing to forget" in kept.stderr) == (3, True)
    assert "Delete " in rm("owner/cached", answer="n\n").stderr
    assert snapshot.is_dir()
    assert "owner/cached is forgotten" in rm("owner/cached", answer="y\n").stdout
    assert not (tmp_path / "hub" / "models--owner--cached").exists()
    keep(tmp_path, *(ModelRow(name=name, aliases=(f"{name}-alias",), hub_id="owner/known") for name in ("one", "two")))
    several = rm("owner/known")
    assert (several.exit_code, "is several models here: one, two. Say which." in several.stderr) == (3, True)
    assert rm("one-alias").stdout == "one is forgotten.\n"
    assert rm("owner/known").stdout == "two is forgotten.\n"
    assert "There is no model 'owner/known'" in rm("owner/known").stderr


def test_folders_that_the_system_refuses_are_told_in_a_line(tmp_path: Path) -> None:
    refused = str(tmp_path / ("x" * 300))
    env = {"HF_HUB_CACHE": refused, "MLX_SERVER_DATA_DIR": str(tmp_path)}
    for command in ("list", "show", "rm"):
        model = [] if command == "list" else [refused]
        done = CliRunner().invoke(app, ["models", command, *model, "--data-dir", refused], env=env)
        assert (done.exit_code, "can't be opened: " in done.stderr) == (3, True), done
    assert CliRunner().invoke(app, ["models", "list"], env=env).stdout == "No models there.\n"
    shown = CliRunner().invoke(app, ["models", "show", refused], env=env)
    assert (shown.exit_code, "There is no model" in shown.stderr) == (3, True)


def test_registry_of_a_newer_version_is_one_line(models: Run, tmp_path: Path) -> None:
    keep(tmp_path)
    with sqlite3.connect(tmp_path / "data" / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    done = models("list")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "was made by a newer version of this server" in done.stderr
