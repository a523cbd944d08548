"""Other programs' files keep what stands in them."""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlx_server.app.connect.files import MERGERS, FileProblem, changed, diff, merged, write

READERS: dict[str, Any] = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
NEW = {"model": "m", "providers": {"mine": {"url": "u"}}}


@pytest.mark.parametrize(
    ("format_", "old"),
    [
        ("json", '{"theme": "dark", "model": "x", "providers": {"theirs": {"url": "v"}, "mine": {"name": "n"}}}'),
        ("yaml", "theme: dark\nmodel: x\nproviders:\n  theirs: {url: v}\n  mine: {name: n}\n"),
        ("toml", 'theme = "dark"\nmodel = "x"\n[providers.theirs]\nurl = "v"\n[providers.mine]\nname = "n"\n'),
    ],
)
def test_values_are_added_and_the_others_stay(format_: str, old: str) -> None:
    text = MERGERS[format_](old, NEW)
    assert READERS[format_](text) == {
        "theme": "dark",
        "model": "m",
        "providers": {"theirs": {"url": "v"}, "mine": {"name": "n", "url": "u"}},
    }
    assert MERGERS[format_](text, NEW) == text


@pytest.mark.parametrize("format_", READERS)
def test_new_file_holds_the_values(format_: str) -> None:
    assert READERS[format_](MERGERS[format_]("", NEW)) == NEW


def test_list_keeps_what_has_other_names() -> None:
    old = '{"models": [{"name": "a", "v": 1}, {"name": "b", "v": 1}, {"v": 3}]}'
    assert json.loads(MERGERS["json"](old, {"models": [{"name": "a", "v": 2}]})) == {
        "models": [{"name": "b", "v": 1}, {"v": 3}, {"name": "a", "v": 2}]
    }


def test_comments_of_toml_stay() -> None:
    assert "# mine\n" in MERGERS["toml"]('# mine\nmodel = "x"\n', NEW)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# mine\nmodel: x  # why\n", {"model": "m", "key": "#k"}),
        ("# mine\n", {"model": "m"}),
        ("model: x\n# mine\ntheme: dark\n# end\n", {"model": {"a": ["b"]}}),
        ("models:\n- name: a\n  v: 1\n\n# mine\ntheme: dark\n", {"models": [{"name": "m"}]}),
        ("models:\n- name: a # mine\ntheme: dark\n", {"key": "k", "theme": "dark"}),
        ("text: 'a # b'\nempty: # mine\nmodel: x", {"empty": 1}),
    ],
)
def test_comments_of_yaml_stay(old: str, new: dict[str, Any]) -> None:
    text = MERGERS["yaml"](old, new)
    assert [line.partition("# ")[2] for line in text.splitlines() if "# " in line and "'" not in line] == [
        line.partition("# ")[2] for line in old.splitlines() if "# " in line and "'" not in line
    ]
    assert yaml.safe_load(text) == merged(yaml.safe_load(old) or {}, new)
    assert MERGERS["yaml"](text, new) == text


@pytest.mark.parametrize("old", ["models:\n- name: a # mine\n  v: 1\n", "{models: []} # mine\n", "a: 1\n... # mine\n"])
def test_yaml_whose_comments_would_go_is_left_alone(old: str) -> None:
    with pytest.raises(ValueError, match="it has comments, which would be lost"):
        MERGERS["yaml"](old, {"models": [{"name": "m"}]})


def test_lines_of_an_environment_are_replaced() -> None:
    assert MERGERS["env"]("A=1\nexport B=2\n# C\n", {"B": "3", "C": "4"}) == "A=1\n# C\nB=3\nC=4\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{// theirs\n}"), ("b.json", "[]"), ("c.yaml", "a: [\n"), ("d.toml", "= 1\n")],
)
def test_file_that_cannot_be_read_stays_as_it_is(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FileProblem, match=f"{name} can't be changed"):
        changed(path, path.suffix[1:], NEW)
    assert path.read_text() == text


def test_file_is_written_for_its_owner_alone_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.json"
    write(path, "one")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("one", 0o600)
    path.chmod(0o644)
    write(path, "two")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o644)
    assert [found.name for found in path.parent.iterdir()] == ["config.json"]


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_diff_shows_what_comes_and_goes() -> None:
    shown = diff(Path("f"), "a\nb\n", "a\nc\n")
    assert shown.splitlines()[-3:] == [" a", "-b", "+c"]
    assert diff(Path("f"), "a\n", "a\n") == ""
