"""The settings view in a real browser, and a server that wants a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from console.pages import answers, say
from playwright.sync_api import Page, expect
from support.running.servers import SCRIPTED, Server, serving

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def locked_server() -> Iterator[Server]:
    """One that opens by "sesame"."""
    with serving(*SCRIPTED, "--api-key", "sesame") as server:
        yield server


def ground(page: Page) -> str:
    """The colour that the page stands on."""
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_theme_is_the_systems_until_one_is_chosen(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server, "settings", color_scheme="dark")
    dark = ground(page)
    page.get_by_label("Light").check()
    light = ground(page)
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    assert ground(page) == light
    page.get_by_label("As the system").check()
    assert ground(page) == dark


def test_setting_is_changed_and_kept(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server, "settings")
    page.get_by_label("After so many minutes").fill("45")
    page.get_by_label("After so many minutes").blur()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert scripted_server.get("/v1/settings").json()["model_inactivity_timeout_minutes"] == 45
    expect(page.get_by_text("No key is configured")).to_be_visible()


def test_benchmark_is_drawn(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server, "settings")
    page.get_by_label("Answers", exact=True).fill("3")
    page.get_by_role("button", name="Measure").click()
    chart = page.locator("svg.bars").first
    expect(chart).to_be_visible()
    assert chart.locator("rect").count() == 3


def test_key_is_asked_for_once_and_kept_for_the_tab(locked_server: Server, open_page: OpenPage) -> None:
    page = open_page(locked_server)
    dialog = page.get_by_role("dialog", name="This server wants an API key")
    for key, said in (("wrong", "It is kept until this tab is closed"), ("sesame", "does not know that key")):
        expect(dialog).to_contain_text(said)
        expect(page.get_by_role("region", name="Messages")).to_have_text("Asking the server")
        dialog.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
    say(page, "one two")
    expect(answers(page)).to_contain_text("2 tokens")
    page.reload()
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_role("row", name="this one")).to_be_visible()
    expect(dialog).to_have_count(0)
    assert "sesame" not in page.content()
    page.get_by_role("link", name="Chat", exact=True).click()
    page.get_by_role("button", name="Copy as curl or Python").click()
    expect(page.get_by_role("dialog")).to_contain_text("Bearer $OPENAI_API_KEY")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="Forget it").click()
    expect(dialog).to_be_visible()


def test_key_may_have_any_letters(launch: Callable[..., Server], open_page: OpenPage) -> None:
    page = open_page(launch(*SCRIPTED, "--api-key", "sésame-öffne-芝麻"))
    dialog = page.get_by_role("dialog", name="This server wants an API key")
    said = "It is kept until this tab is closed"
    for key in ("“sesame”", "sesame\x01", "sésame-öffne-芝麻"):
        expect(dialog).to_contain_text(said)
        with page.expect_response("**/v1/models"):
            dialog.get_by_label("API key").fill(key)
            page.keyboard.press("Enter")
        said = "does not know that key"
    expect(page.get_by_text("Write a message to begin.")).to_be_visible()
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize("knows", ["closedby", "close"])
def test_key_is_asked_for_until_it_is_given(locked_server: Server, open_page: OpenPage, knows: str) -> None:
    page = open_page(locked_server)
    dialog = page.get_by_role("dialog", name="This server wants an API key")
    expect(dialog).to_be_visible()
    if knows == "close":
        dialog.evaluate("dialog => dialog.removeAttribute('closedby')")
    for _ in range(4):  # a page that was clicked in may prevent the first ones
        page.keyboard.press("Escape")
        expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Write a message to begin.")).to_be_visible()
    expect(dialog).to_have_count(0)
