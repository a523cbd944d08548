"""Every view, light and dark, wide and narrow: axe-core finds no serious fault, and all of it is in the window."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from console.node.libraries import MODULES
from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.servers import SCRIPTED, Server, serving

OpenPage = Callable[..., Page]
AXE = MODULES / "axe-core" / "axe.min.js"
SIZES = ((1280, 800), (390, 844))
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SERIOUS = ("serious", "critical")
CUT = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
"""Tables that are wider than their places."""

TEXT = "## A list\n\n- `code` and **more**\n- [ ] todo\n\n```python\nprint(1)\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One of its own: each line that others had it log would be looked at."""
    with serving(*SCRIPTED) as server:
        yield server


def opened(server: Server, open_page: OpenPage, view: str) -> Page:
    """The view with something in it."""
    page = open_page(server, view)
    if view == "chat":
        say(page, script(tokens=1, text=TEXT))
        expect(answers(page).locator(".figures")).to_be_visible()
        page.get_by_role("button", name="Parameters").click()
    elif view == "models":
        expect(page.get_by_role("button", name="Unload scripted")).to_be_visible()
    elif view == "now":
        expect(page.get_by_role("region", name="Models")).to_contain_text("1 ready")
    elif view == "logs":
        expect(page.get_by_role("list", name="Lines")).to_contain_text("scripted: loaded")
    else:
        page.get_by_role("button", name="Measure").click()
        expect(page.locator("svg.bars").first).to_be_visible()
    return page


@pytest.mark.skipif(not AXE.is_file(), reason="npm is missing: `make node` says how to get it")
@pytest.mark.parametrize("view", ["chat", "now", "models", "logs", "settings"])
def test_view_has_no_serious_fault(server: Server, open_page: OpenPage, view: str) -> None:
    page = opened(server, open_page, view)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = []
    for theme, (width, height) in itertools.product(THEMES, SIZES):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        found = page.evaluate("axe.run()")["violations"]
        faults += [
            (theme, width, one["id"], node["html"], node["failureSummary"])
            for one in found
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []
    assert faults == []
