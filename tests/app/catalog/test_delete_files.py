"""Files go with their model where they are the server's own to delete, and only then."""

from pathlib import Path

import pytest

from mlx_server.app.catalog.delete_files import bytes_in, deletable, delete


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in the hub's cache, with its locks beside it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--a--b"
    for snapshot in ("one", "two"):
        (folder / "snapshots" / snapshot).mkdir(parents=True)
        (folder / "snapshots" / snapshot / "config.json").write_text("{}")
    locks = tmp_path / "hub" / ".locks"
    for name in ("models--a--b", "models--a--c"):
        (locks / name).mkdir(parents=True)
    return folder


def test_repository_goes_whole_and_its_locks_with_it(repository: Path) -> None:
    target = deletable(repository / "snapshots" / "one", [])
    assert target == repository
    assert bytes_in(target) == 4
    delete(target)
    assert not repository.exists()
    assert [left.name for left in (repository.parent / ".locks").iterdir()] == ["models--a--c"]


def test_repository_stays_while_another_model_is_of_it(repository: Path, tmp_path: Path) -> None:
    snapshots = repository / "snapshots"
    assert deletable(snapshots / "one", [tmp_path / "elsewhere", snapshots / "two"]) is None


def test_folders_of_the_users_own_are_never_deleted(repository: Path, tmp_path: Path) -> None:
    models, own = tmp_path / "models", tmp_path / "own"
    for folder in (models, own):
        folder.mkdir()
    (models / "linked").symlink_to(own)
    assert deletable(own, []) is None
    assert deletable(models / "linked", [], models) is None, "it only leads out of there"
    assert deletable(models, [], models) is None


@pytest.mark.parametrize("place", ["org/mine", "mine", "models--a--b", "models--a--b/mine", "models--a--b/snapshots"])
def test_what_lies_in_the_hubs_cache_and_is_no_snapshot_is_never_deleted(repository: Path, place: str) -> None:
    own = repository.parent / place
    own.mkdir(parents=True, exist_ok=True)
    assert deletable(own, []) is None
    assert deletable(repository / "snapshots" / "one" / ".." / ".." / ".." / "org", []) is None


def test_model_in_one_file_goes_as_a_folder_does(tmp_path: Path) -> None:
    file = tmp_path / "models" / "model.gguf"
    file.parent.mkdir()
    file.write_bytes(b"12345678")
    target = deletable(file, [], file.parent)
    assert target == file
    assert bytes_in(target) == 8
    delete(target)
    assert not file.exists()
    assert deletable(file, [], file.parent) is None
