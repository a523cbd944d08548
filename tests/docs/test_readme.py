"""The README: short, its recipes run as they are written, and every page's links lead somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running import sdks
from support.running.servers import ROOT, Server

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 125
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it of their text."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def block(kind: str, part: str) -> str:
    """The code of the README's block of this kind that has the part."""
    [found] = [code for code in re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if part in code]
    return str(found)


def heredoc(shell: str) -> str:
    """What a block of shell gives its command to read."""
    [text] = re.findall(r"<<'EOF'\n(.*?)^EOF$", shell, re.MULTILINE | re.DOTALL)
    return str(text)


def said(code: str, server: Server) -> str:
    """What a recipe prints with this server in place of its own."""
    here = "http://127.0.0.1:8000/v1"
    assert here in code
    return sdks.outcome([sdks.python(), "-c", code.replace(here, server.url)])


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_life_of_a_request_is_eight_lines_with_a_file_each() -> None:
    section = README.split("## Life of a request\n")[1].split("\n## ")[0].strip().splitlines()
    files = [re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", line) for line in section]
    assert [line[:3] for line in section] == [f"{number}. " for number in range(1, 9)]
    for [(shown, link)] in files:
        assert shown == link
        assert (ROOT / link).is_file(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_readme_names_every_page() -> None:
    assert {link for link in LINK.findall(README) if re.fullmatch(r"docs/.*\.md", link)} == {
        f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"
    }


@pytest.mark.model
def test_first_questions_get_convincing_answers(smollm2_server: Server) -> None:
    answer = said(heredoc(block("bash", "Name three")), smollm2_server)
    assert answer.startswith("The capital of France is Paris.\nThe primary colours are:")
    assert all(colour in answer for colour in ("Red", "Blue", "Yellow"))


@pytest.mark.model
def test_recipe_of_pictures_sees(launch: Callable[..., Server]) -> None:
    assert "`mlx-server launch --model-path tests/shapes/model`" in README
    server = launch("--model-path", ROOT / "tests" / "shapes" / "model")
    assert said(block("python", "image_url"), server) == "a red circle at the top left\n"


@pytest.mark.model
def test_recipes_of_several_models_and_embeddings_run(
    launch: Callable[..., Server], tmp_path: Path, smollm2: Path, minilm: Path
) -> None:
    write, start = block("bash", "models.toml").strip().rsplit("\n", 1)
    assert start == "mlx-server launch --config models.toml"
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", write], check=True, cwd=tmp_path, env=env, timeout=120)
    server = launch("--config", tmp_path / "models.toml")
    [size, best] = said(block("python", "/rerank"), server).splitlines()
    assert size == "384"
    assert "'index': 1, 'relevance_score': 0.7" in best
    assert server.chat("Hello!", model="gpt-4o-mini", max_tokens=4).status_code == 200
