"""`mlx-server connect`, as a real command that asks a real server."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.running.servers import ROOT, SCRIPTED, Server, serving
from typer.testing import CliRunner

from mlx_server.app.cli.cli import app
from mlx_server.app.connect.clients import CLIENTS
from mlx_server.app.connect.files import MERGERS
from mlx_server.app.connect.running_server import ServerProblem
from mlx_server.app.connect.target import Modalities, ServedModel, Target, choose

DOCS = ROOT / "docs" / "agents.md"
TARGET = Target("http://127.0.0.1:8000", "org/model", 32768, 8192, "secret", sees=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--api-key", "secret", "--model-name", "writer") as server:
        yield server


def connect(*arguments: object, home: Path, answer: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_server.app", "connect", *map(str, arguments)]
    env = {**os.environ, "HOME": str(home), **env}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env=env, input=answer)


@pytest.mark.parametrize("name", CLIENTS)
def test_client_is_told_the_address_the_model_and_the_key(name: str) -> None:
    setup = CLIENTS[name].setup(TARGET)
    texts = [MERGERS[file.format]("", file.values) for file in setup.files]
    told = "\n".join([setup.command, *texts, *(f"{name}={value}" for name, value in setup.environment.items())])
    assert TARGET.root in told
    assert "secret" in told
    assert TARGET.model in told or name in ("openai", "anthropic", "open-webui")
    assert not any(file.path.startswith(("/", "~")) for file in setup.files)


def test_codex_is_configured_after_a_yes(server: Server, tmp_path: Path) -> None:
    config = tmp_path / ".codex" / "config.toml"
    config.parent.mkdir()
    config.write_text('approval_policy = "never"  # mine\n')
    refused = connect("codex", "--url", server.url, "--api-key", "secret", "--write", home=tmp_path, answer="n\n")
    assert refused.returncode == 1
    assert '+model = "writer"' in refused.stdout
    assert config.read_text() == 'approval_policy = "never"  # mine\n'
    done = connect("codex", "--url", server.url, "--api-key", "secret", "--write", home=tmp_path, answer="y\n")
    assert done.returncode == 0, done.stderr
    written = tomllib.loads(config.read_text())
    assert written["approval_policy"] == "never"
    assert written["model"] == "writer"
    assert written["model_providers"]["mlx-server"]["base_url"] == server.url
    again = connect("codex", "--url", server.url, "--api-key", "secret", "--write", home=tmp_path)
    assert again.returncode == 0
    assert "is as it should be" in again.stdout


def test_configuration_is_printed_and_nothing_is_written(server: Server, tmp_path: Path) -> None:
    done = connect("claude-code", "--url", server.root, home=tmp_path, MLX_SERVER_API_KEY="secret")
    assert done.returncode == 0, done.stderr
    shown, _, command = done.stdout.strip().partition("\n}\n")
    settings = json.loads(shown.partition("\n")[2] + "}")
    assert settings["env"]["ANTHROPIC_BASE_URL"] == server.root
    assert settings["env"]["ANTHROPIC_MODEL"] == "writer"
    assert command.strip() == "claude"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_shown(server: Server, tmp_path: Path) -> None:
    config = tmp_path / ".aider.conf.yml"
    config.write_text("{model: x} # mine\n")
    command = ["connect", "aider", "--url", server.url, "--api-key", "secret", "--write", "--yes"]
    done = CliRunner().invoke(app, command, env={"HOME": str(tmp_path)})
    assert done.exit_code == 1
    assert "it has comments, which would be lost): put in yourself what is shown above" in done.stderr
    assert f"# ~/{config.name}\nmodel: openai/writer\n" in done.stdout
    assert config.read_text() == "{model: x} # mine\n"
    assert list(tmp_path.iterdir()) == [config]


def test_context_that_is_too_short_is_told(launch: Callable[..., Server], tmp_path: Path) -> None:
    server = launch(*SCRIPTED, "--context-length", 8192, "--default-max-tokens", 512)
    codex, cline = (connect(name, "--url", server.url, home=tmp_path) for name in ("codex", "cline"))
    assert "8,192 tokens with scripted, but Codex CLI begins with about 10,500" in codex.stderr
    assert "model_context_window = 8192" in codex.stdout
    assert (codex.returncode, cline.returncode, cline.stderr) == (0, 0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["codexx"], 2, "is none of codex, claude-code"),
        (["codex", "--url", "http://127.0.0.1:1"], 5, "no server answers at http://127.0.0.1:1"),
        (["codex", "--url", "SERVER", "--api-key", "wrong"], 5, "needs another key"),
    ],
)
def test_what_cannot_be_done_is_said(
    server: Server, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    done = connect(*(server.url if each == "SERVER" else each for each in arguments), home=tmp_path, COLUMNS="200")
    assert done.returncode == code
    assert told in done.stderr


def test_all_clients_are_listed(tmp_path: Path) -> None:
    done = connect("list", home=tmp_path)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(CLIENTS)


LOADED, UNLOADED = ServedModel("a"), ServedModel("b", "unloaded", modalities=Modalities(["text", "image"]))


@pytest.mark.parametrize(
    ("served", "wanted", "found"),
    [
        ([LOADED], None, "a"),
        ([UNLOADED], None, "b"),
        ([LOADED, UNLOADED], None, "a"),
        ([LOADED, UNLOADED], "b", "b"),
        ([LOADED], "any name", "a"),
    ],
)
def test_model_is_the_one_that_is_meant(served: list[ServedModel], wanted: str | None, found: str) -> None:
    assert choose(served, wanted).id == found


@pytest.mark.parametrize(
    ("served", "wanted", "told"),
    [
        ([], None, "no model yet"),
        ([LOADED, UNLOADED], "c", "has no model 'c'; it has a, b"),
        ([UNLOADED, ServedModel("c", "unloaded")], None, "name one with --model. It has b, c"),
    ],
)
def test_model_that_cannot_be_told_is_asked_for(served: list[ServedModel], wanted: str | None, told: str) -> None:
    with pytest.raises(ServerProblem, match=told):
        choose(served, wanted)


@pytest.mark.parametrize("name", CLIENTS)
def test_client_is_documented_with_its_files(name: str) -> None:
    [section] = [part for part in DOCS.read_text().split("\n## ")[1:] if f"`mlx-server connect {name}`" in part]
    for file in CLIENTS[name].setup(TARGET).files:
        assert f"`~/{file.path}`" in section


def test_documented_versions_are_those_that_are_tried() -> None:
    npm = json.loads((ROOT / "tests" / "agents" / "package.json").read_text())["dependencies"]
    driven = (ROOT / "tests" / "agents" / "agents.py").read_text()
    pypi = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?==([\d.]+)"', driven))
    tried = {package: version for package, version in (npm | pypi).items() if package != "node"}
    assert set(tried.values()) <= set(re.findall(r"(?:tried with|smolagents|SDK) ([\d.]+\d)", DOCS.read_text()))
    table = (ROOT / "docs" / "clients.md").read_text()
    assert dict(re.findall(r"\| (?:npm|PyPI) `(.+?)` \| ([\d.]+) \|", table)) == tried
