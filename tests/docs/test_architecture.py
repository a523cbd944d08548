"""The page for those who change the server: what it names is there."""

import re

from support.running.servers import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:app|queue|schemas|workers|tests)/[\w./]*)`")
MOST_WORDS = 40


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def test_files_and_folders_that_are_named_are_there() -> None:
    missing = [path for path in PATH.findall(PAGE) if not (ROOT / path).exists()]
    assert missing == []


def test_twenty_changes_have_a_place() -> None:
    rows = rows_of("To change X, go to Y")
    assert len(rows) >= 20
    assert all(PATH.search(place) for _, place in rows)


def test_glossary_is_short_and_in_order() -> None:
    words = [word for word, _ in rows_of("Words")]
    assert len(words) <= MOST_WORDS
    assert words == sorted(words, key=str.lower)
