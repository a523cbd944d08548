"""Files go with their model where they are the server's own to delete, and only then."""

from pathlib import Path

import pytest

from mlx_server.app.catalog.delete_files import bytes_in, conversions, deletable, delete, needed_by
from mlx_server.app.config.settings import ModelSettings
from mlx_server.workers.folders.conversions import Source, record


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
    assert target == [repository]
    assert bytes_in(target) == 4
    delete(target)
    assert not repository.exists()
    assert [left.name for left in (repository.parent / ".locks").iterdir()] == ["models--a--c"]


def test_repository_stays_while_another_model_is_of_it(repository: Path, tmp_path: Path) -> None:
    snapshots = repository / "snapshots"
    assert deletable(snapshots / "one", [tmp_path / "elsewhere", snapshots / "two"]) == []


def test_folders_of_the_users_own_are_never_deleted(repository: Path, tmp_path: Path) -> None:
    models, own = tmp_path / "models", tmp_path / "own"
    for folder in (models, own):
        folder.mkdir()
    (models / "linked").symlink_to(own)
    assert deletable(own, []) == []
    assert deletable(models / "linked", [], models) == [], "it only leads out of there"
    assert deletable(models, [], models) == []


@pytest.mark.parametrize("place", ["org/mine", "mine", "models--a--b", "models--a--b/mine", "models--a--b/snapshots"])
def test_what_lies_in_the_hubs_cache_and_is_no_snapshot_is_never_deleted(repository: Path, place: str) -> None:
    own = repository.parent / place
    own.mkdir(parents=True, exist_ok=True)
    assert deletable(own, []) == []
    assert deletable(repository / "snapshots" / "one" / ".." / ".." / ".." / "org", []) == []


@pytest.mark.parametrize("linked", [False, True])
def test_repository_in_a_cache_that_is_a_link_goes_too(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(repository.parent)
    monkeypatch.setenv("HF_HUB_CACHE", str(link))
    snapshots = (link if linked else repository.parent) / "models--a--b" / "snapshots"
    assert deletable(snapshots / "one", [repository / "snapshots" / "two"]) == []
    assert deletable(snapshots / "one", [link / "models--a--b" / "snapshots" / "two"]) == []
    (tmp_path / "own").symlink_to(snapshots / "one")
    assert deletable(tmp_path / "own", []) == [], "it only leads there"
    delete(deletable(snapshots / "one", []))
    assert not repository.exists()
    assert [left.name for left in (repository.parent / ".locks").iterdir()] == ["models--a--c"]


def test_model_in_one_file_of_a_repository_goes_with_it(repository: Path) -> None:
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_bytes(b"1234")
    file = repository / "snapshots" / "one" / "model.gguf"
    file.symlink_to(repository / "blobs" / "abc")
    assert deletable(file, []) == [repository]


def test_model_in_one_file_goes_goes_as_a_folder_does(tmp_path: Path) -> None:
    file = tmp_path / "models" / "model.gguf"
    file.parent.mkdir()
    file.write_bytes(b"12345678")
    target = deletable(file, [], file.parent)
    assert target == [file]
    assert bytes_in(target) == 8
    delete(target)
    assert not file.exists()
    assert deletable(file, [], file.parent) == []


def test_what_was_made_of_a_file_goes_with_its_model(tmp_path: Path) -> None:
    parts = [tmp_path / f"large-{number:05}-of-00002.gguf" for number in (1, 2)]
    made = tmp_path / "cache" / "converted" / "large-1"
    record(made, Source(str(parts[0]), "float32", made.name))
    for other in parts:
        assert conversions(parts[1], [other], tmp_path / "cache") == []
    assert conversions(tmp_path / "other.gguf", [], tmp_path / "cache") == []
    assert conversions(parts[1], [tmp_path / "other.gguf"], tmp_path / "cache") == [made]


def test_file_that_another_model_has_by_another_spelling_stays(tmp_path: Path) -> None:
    file, other = tmp_path.resolve() / "model.gguf", tmp_path.resolve() / "MODEL.gguf"
    file.write_bytes(b"1")
    if not other.exists():
        other.hardlink_to(file)
    assert deletable(file, [other], tmp_path) == []
    assert deletable(file, [tmp_path / "none.gguf"], tmp_path) == [file]


@pytest.mark.parametrize("given", [0, 1])
def test_model_in_several_files_goes_with_all_of_them(tmp_path: Path, given: int) -> None:
    root = tmp_path.resolve()
    parts = [root / f"large-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for path in (*parts, root / "other-00001-of-00003.gguf"):
        path.write_bytes(b"1234")
    assert deletable(parts[given], [parts[2]], root) == [], "another model is named by another part"
    targets = deletable(parts[given], [], root)
    assert (targets, bytes_in(targets)) == (parts, 12)
    delete(targets)
    assert [left.name for left in root.iterdir()] == ["other-00001-of-00003.gguf"]


def test_what_others_need_stays_where_it_lies_in_a_models_folder_and_where_it_is_a_part_of_one(tmp_path: Path) -> None:
    outer = tmp_path.resolve() / "outer"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    for folder in (outer, inner):
        (folder / "config.json").write_text("{}")
    (tmp_path / "linked").symlink_to(inner)
    for other in (inner, tmp_path / "linked", inner / "config.json"):
        assert deletable(outer, [other], tmp_path) == []
    assert deletable(inner, [], tmp_path) == []
    assert deletable(outer, [tmp_path, tmp_path / "out"], tmp_path) == [outer]


def test_draft_models_and_adapters_are_needed_with_a_model_also_before_they_are_whole(
    repository: Path, tmp_path: Path
) -> None:
    adapter, adapters = tmp_path / "adapter", tmp_path / "adapters"
    model = ModelSettings(str(tmp_path / "own"), draft_model="a/b", adapter_path=adapter, adapter_dir=adapters)
    assert needed_by(model) == [tmp_path / "own", Path("a/b"), repository, adapter, adapters]
    assert deletable(repository / "snapshots" / "one", needed_by(model)) == []
