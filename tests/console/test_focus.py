"""The keyboard keeps its place when the messages are drawn anew."""

from __future__ import annotations

from collections.abc import Callable

from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.servers import Server

OpenPage = Callable[..., Page]


def test_keyboard_keeps_its_place_while_versions_are_turned(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".figures")).to_be_visible()
    for version in ("2/2", "3/3"):
        page.get_by_role("button", name="Answer again").press("Enter")
        expect(page.get_by_role("region", name="Messages")).to_be_focused()
        expect(page.get_by_text(version)).to_be_visible()
        expect(answers(page).locator(".figures")).to_be_visible()
    earlier = page.get_by_role("button", name="Earlier version")
    earlier.focus()
    for version in ("2/3", "1/3", "1/3"):
        page.keyboard.press("Enter")
        expect(page.get_by_text(version)).to_be_visible()
        expect(earlier).to_be_focused()
    expect(earlier).to_be_disabled()
    later = page.get_by_role("button", name="Later version")
    later.press("Enter")
    expect(page.get_by_text("2/3")).to_be_visible()
    expect(later).to_be_focused()


def test_keyboard_goes_on_after_an_edit(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".figures")).to_be_visible()
    edit = page.get_by_role("button", name="Edit")
    edited = page.get_by_label("Edited message")
    edit.press("Enter")
    expect(edited).to_be_focused()
    page.keyboard.press("Escape")
    expect(edit).to_be_focused()
    edit.press("Enter")
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(edit).to_be_focused()
    edit.press("Enter")
    edited.fill(script(tokens=1, text="second"))
    page.locator("form.editing").get_by_role("button", name="Send").press("Enter")
    expect(answers(page).locator(".text")).to_have_text("second")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()


def test_button_of_a_message_keeps_the_keyboard_when_the_next_answer_ends(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".figures")).to_be_visible()
    say(page, script(tokens=20, interval_s=0.1))
    expect(answers(page).nth(1)).to_contain_text("token")
    copy = answers(page).first.get_by_role("button", name="Copy message")
    copy.focus()
    expect(answers(page).nth(1).locator(".figures")).to_be_visible()
    expect(copy).to_be_focused()
