from pathlib import Path

import pytest

from mlx_server.workers.folders.adapter_folder import SHOWN, find_adapter, list_adapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`inside` is an adapter, `empty` a folder, `secret` an adapter elsewhere; links lead to all of them."""
    folder = tmp_path / "adapters"
    for path in (folder / "inside", folder / "inside" / "deeper", tmp_path / "secret"):
        path.mkdir(parents=True)
        (path / "adapter_config.json").write_text("{}")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "link").symlink_to(folder / "inside")
    (folder / "way-out").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


@pytest.mark.parametrize("name", ["inside", "link", "{folder}/inside", "{folder}/link"])
def test_find_adapter_takes_what_lies_directly_in_the_folder(folder: Path, name: str) -> None:
    assert find_adapter(folder, name.format(folder=folder)) == folder / "inside"


@pytest.mark.parametrize(
    "name",
    [
        "nonesuch",
        "empty",
        "file",
        "loop",
        "way-out",
        "",
        ".",
        "..",
        "./inside",
        "inside/",
        "inside/deeper",
        "inside/../inside",
        "../secret",
        "../adapters/inside",
        "{folder}",
        "{folder}/..",
        "{folder}/../secret",
        "{folder}/inside/deeper",
        "/etc",
        "~",
        "a\0b",
        "x" * 5000,
    ],
)
def test_find_adapter_takes_nothing_else(folder: Path, name: str) -> None:
    assert find_adapter(folder, name.format(folder=folder)) is None


def test_find_adapter_works_behind_a_linked_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    assert find_adapter(tmp_path / "linked", "inside") == folder / "inside"


def test_list_adapters_names_what_may_be_named(folder: Path) -> None:
    assert list_adapters(folder) == "inside, link"
    assert list_adapters(folder / "empty") == "none at the moment"
    assert list_adapters(folder / "nonesuch") == "none at the moment"


def test_list_adapters_is_bounded(folder: Path) -> None:
    for number in range(2 * SHOWN):
        (folder / f"a{number}").mkdir()
        (folder / f"a{number}" / "adapter_config.json").write_text("{}")
    names = list_adapters(folder).split(", ")
    assert (len(names), names[-1]) == (SHOWN + 1, "…")
