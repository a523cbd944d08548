"""A chat as code: what is copied runs elsewhere, and is answered."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from console.pages import answers, say
from PIL import Image
from playwright.sync_api import Page, expect
from support.running.servers import ROOT, Server, serving

OpenPage = Callable[..., Page]
CIRCLE = ROOT / "examples" / "data" / "red_circle.png"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def painter() -> Iterator[Server]:
    """A server of a model that draws."""
    with serving("--model", f"painter={ROOT / 'tests/drawing/model'}") as server:
        yield server


def copied(page: Page, name: str) -> str:
    """What the button of that name copies."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl or Python").click()
    page.get_by_role("button", name=f"Copy as {name}", exact=True).click()
    text = str(page.evaluate("navigator.clipboard.readText()"))
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    return text


def run(program: str, text: str, folder: Path = ROOT) -> str:
    """What a program prints that reads a text and ends well."""
    done = subprocess.run([program], input=text, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_copied_curl_takes_a_picture_that_is_too_long_for_an_argument(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    Image.frombytes("RGB", (300, 300), os.urandom(270_000)).save(noise := io.BytesIO(), "png")
    picture = {"name": "noise.png", "mimeType": "image/png", "buffer": noise.getvalue()}
    page.locator("input[type=file]").set_input_files(files=[picture])
    expect(page.locator(".composer .file img")).to_be_visible()
    say(page, "It's $HOME\nEOF\n")
    expect(answers(page).locator(".figures")).to_be_visible()
    answer = json.loads(run("bash", copied(page, "curl")))
    assert answer["choices"]


def test_code_of_a_chat_that_has_not_begun_is_answered(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    expect(page.get_by_text("Write a message to begin.")).to_be_visible()
    assert json.loads(run("bash", copied(page, "curl")))["choices"][0]["message"]["content"] == "token "
    assert run(sys.executable, copied(page, "Python")) == "token \n"


def test_copied_python_prints_the_calls_of_an_answer_without_words(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Tools").fill(json.dumps(TOOLS))
    say(page, "What is the weather?")
    expect(answers(page).locator(".figures")).to_be_visible()
    assert "print(message.content or message.tool_calls)" in copied(page, "Python")


@pytest.mark.model
@pytest.mark.parametrize("changed", [False, True])
def test_copied_code_of_a_picture_draws_it(painter: Server, open_page: OpenPage, tmp_path: Path, changed: bool) -> None:
    page = open_page(painter)
    expect(page.get_by_text("It draws what you describe.")).to_be_visible()
    if changed:
        page.locator("input[type=file]").set_input_files(CIRCLE)
        expect(page.locator(".composer .file img")).to_be_visible()
    say(page, "a red circle at the 'top' left; @it")
    expect(answers(page).get_by_alt_text("The picture that was drawn")).to_be_visible(timeout=60_000)
    curl, python = copied(page, "curl"), copied(page, "Python")
    assert ("/v1/images/edits" in curl, "client.images.edit(" in python) == (changed, changed)
    [drawn] = json.loads(run("bash", curl))["data"]
    assert "b64_json" not in drawn, "it would fill the terminal"
    run(sys.executable, python, tmp_path)
    for data in (httpx.get(drawn["url"]).content, (tmp_path / "drawn.png").read_bytes()):
        assert Image.open(io.BytesIO(data)).format == "PNG"
