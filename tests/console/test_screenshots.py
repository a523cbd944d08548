"""The pictures of docs/console.md, which pytest's `--screenshots` has made anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from console.pages import answers, say
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect
from support.running.raw import RawClient
from support.running.servers import ROOT, Server, chat_body

pytestmark = pytest.mark.model

OpenPage = Callable[..., Page]
WRITER = "SmolLM2-135M-Instruct"
PHONE: ViewportSize = {"width": 390, "height": 700}
COLOURS = 96
MOST_BYTES = 100_000
SECONDS = re.compile(r"(L[^L]*){12}")
"""A line of so many."""


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go: into the documentation only if that is asked for."""
    return ROOT / "docs" / "console" if request.config.getoption("--screenshots") else tmp_path


def picture(page: Page, path: Path) -> None:
    """The page as a PNG of few colours."""
    path.parent.mkdir(exist_ok=True)
    with Image.open(BytesIO(page.screenshot(animations="disabled", caret="hide"))) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES


def ask(page: Page, model: str, text: str, shown: Path | None = None) -> None:
    """A chat of one question, which the model answers in the likeliest words."""
    page.get_by_role("button", name="New chat").click()
    page.get_by_label("Model", exact=True).select_option(model)
    if shown is not None:
        page.locator("input[type=file]").set_input_files(shown)
        expect(page.locator(".composer .file")).to_be_visible()
    say(page, text)
    expect(answers(page).locator(".figures")).to_be_visible(timeout=60_000)


def test_views_look_as_the_documentation_shows_them(
    launch: Callable[..., Server], open_page: OpenPage, smollm2: Path, folder: Path
) -> None:
    server = launch("--model", f"{WRITER}={smollm2}", "--model", f"shapes={ROOT / 'tests/shapes/model'}")
    server.wait_until(lambda: all(one["status"] == "loaded" for one in server.get("/v1/models").json()["data"]))
    page = open_page(server, color_scheme="light")
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Stop at").fill("The")
    page.get_by_role("button", name="Close").click()
    ask(page, WRITER, "Write a Python function that adds two numbers, and explain it.")
    ask(page, "shapes", "Describe the picture.", ROOT / "examples" / "data" / "red_circle.png")
    page.get_by_label("Message", exact=True).blur()
    picture(page, folder / "chat.png")
    page.get_by_role("button", name="Write a Python").first.click()
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    picture(page, folder / "phone.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("button", name="Unload shapes")).to_be_visible()
    picture(page, folder / "models.png")
    page.get_by_role("link", name="Now").click()
    busy = chat_body("Count to a hundred.", model=WRITER, max_tokens=2000, ignore_eos=True, stream=True)
    with RawClient(server, busy), RawClient(server, busy):
        speed = page.get_by_role("region", name="The last minutes").locator("path").first
        expect(speed).to_have_attribute("d", SECONDS, timeout=60_000)
        expect(page.get_by_role("region", name="Requests")).to_contain_text("2 running")
        picture(page, folder / "now.png")
