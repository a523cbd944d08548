"""Models are found by the names that they have on the disk."""

import os
from pathlib import Path

import pytest
from support.tiny.folders import make, make_gguf, make_snapshot

from mlx_server.app.catalog.errors import ModelNotFound
from mlx_server.app.catalog.hub_cache import snapshot
from mlx_server.app.config.settings import Settings
from mlx_server.app.fleet.catalogue import Catalogue


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk that finds files by names in capitals as well, as a Mac's does, but does not list these."""
    folder = tmp_path.resolve() / "models"
    for name in ("tiny", "TINY", "sub/other", "SUB/OTHER", "sub/OTHER"):
        make(folder / name)
    for name in ("one.gguf", "ONE.gguf"):
        make_gguf(folder / name)
    for name in ("author/model", "AUTHOR/MODEL"):
        make_snapshot(tmp_path / "hub", name, "abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    listed = os.listdir
    capitals = {"TINY", "SUB", "OTHER", "ONE.gguf", "models--AUTHOR--MODEL"}
    monkeypatch.setattr(os, "listdir", lambda path: [name for name in listed(path) if name not in capitals])
    return folder


@pytest.mark.parametrize(("name", "other"), [("tiny", "TINY"), ("sub/other", "sub/OTHER"), ("one", "ONE")])
def test_model_has_the_name_that_it_has_on_the_disk_and_no_other(models: Path, name: str, other: str) -> None:
    catalogue = Catalogue(Settings(models_dir=models))
    assert catalogue.find(name).public_name == name
    for wrong in (other, other.upper(), str(models / other)):
        with pytest.raises(ModelNotFound):
            catalogue.find(wrong)


def test_model_of_the_hub_has_its_own_name_and_no_other(models: Path) -> None:
    assert snapshot("author/model") is not None
    assert snapshot("AUTHOR/MODEL") is None
    with pytest.raises(ModelNotFound):
        Catalogue(Settings(models_dir=models)).find("AUTHOR/MODEL")


def test_model_behind_a_link_is_called_as_what_it_leads_to(models: Path) -> None:
    (models / "LINK").symlink_to(models / "sub" / "other")
    assert Catalogue(Settings(models_dir=models)).find("LINK").public_name == "sub/other"
