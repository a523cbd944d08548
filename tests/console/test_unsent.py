"""What is half written in the chat: no answer that ends, no key and no other view takes it away."""

from __future__ import annotations

import json
from collections.abc import Callable

from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.servers import Server

OpenPage = Callable[..., Page]

SLOW = script(tokens=40, interval_s=0.1)
LONG = script(tokens=1, text="line\n\n" * 100)
SCROLLED = "thread => thread.scrollTop"
TO_THE_END = "thread => thread.scrollHeight - thread.scrollTop - thread.clientHeight"
COMPOSED = """(area, key) => area.dispatchEvent(
  new KeyboardEvent("keydown", { key, keyCode: 229, bubbles: true, cancelable: true }),
)"""
"""A key of an input method, as Safari tells of the last one."""


def look_away_and_back(page: Page) -> None:
    """To another view, and back until everything is drawn anew."""
    page.get_by_role("link", name="Logs").click()
    with page.expect_response("**/v1/audio/voices"):
        page.get_by_role("link", name="Chat", exact=True).click()


def expect_end(page: Page) -> None:
    """Of the answer, with everything drawn anew."""
    expect(page.locator(".composer").get_by_role("button", name="Send")).to_be_visible()


def test_system_prompt_is_written_on_when_an_answer_ends(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    page.get_by_role("button", name="Parameters").click()
    say(page, SLOW)
    expect(answers(page)).to_contain_text("token")
    prompt = page.get_by_label("System prompt")
    prompt.fill("Be bri")
    expect_end(page)
    expect(prompt).to_have_value("Be bri")
    expect(prompt).to_be_focused()
    page.keyboard.type("ef.")
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page, "hello")
    assert json.loads(sent.value.post_data or "")["messages"][0] == {"role": "system", "content": "Be brief."}
    page.get_by_role("button", name="New chat").click()
    expect(prompt).to_have_value("Be brief.")


def test_edit_is_written_on_when_an_answer_ends_and_left_alone_by_escape(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, SLOW)
    expect(answers(page)).to_contain_text("token")
    edited = page.get_by_label("Edited message")
    for ends in (False, True):
        page.locator("article.user").hover()
        page.get_by_role("button", name="Edit").click()
        edited.fill("half a tho")
        if ends:
            expect_end(page)
            expect(edited).to_be_focused()
            page.keyboard.type("ught")
            expect(edited).to_have_value("half a thought")
        page.keyboard.press("Escape")
        expect(edited).to_have_count(0)
    expect(answers(page).locator(".figures")).to_contain_text("40 tokens")


def test_thread_stays_where_somebody_reads_and_goes_on_where_nobody_does(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    thread = page.get_by_role("region", name="Messages")
    figures = answers(page).locator(".figures")
    say(page, LONG)
    expect(figures).to_have_count(1)
    say(page, SLOW)
    expect(answers(page).nth(1)).to_contain_text("token")
    assert thread.evaluate(TO_THE_END) < 2
    thread.evaluate("thread => thread.scrollTop = 100")
    expect(figures).to_have_count(2)
    expect_end(page)
    assert thread.evaluate(SCROLLED) == 100
    look_away_and_back(page)
    assert thread.evaluate(SCROLLED) == 100
    say(page, script(tokens=400, interval_s=0.005))
    expect(answers(page).nth(2)).to_contain_text("token")
    assert thread.evaluate(TO_THE_END) < 2
    page.get_by_role("link", name="Logs").click()
    scripted_server.wait_stats(active_requests=0)
    look_away_and_back(page)
    expect(figures).to_have_count(3)
    expect_end(page)
    assert thread.evaluate(TO_THE_END) < 2


def test_keys_of_input_methods_neither_send_nor_stop(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    message = page.get_by_label("Message", exact=True)
    message.fill("日本")
    message.evaluate(COMPOSED, "Enter")
    message.press_sequentially("語")
    page.keyboard.press("Enter")
    expect(answers(page).locator(".figures")).to_be_visible()
    expect(page.locator("article.user .text")).to_have_text("日本語")
    say(page, SLOW)
    expect(answers(page).nth(1)).to_contain_text("token")
    message.evaluate(COMPOSED, "Escape")
    expect(answers(page).nth(1).locator(".figures")).to_contain_text("40 tokens")


def test_edit_to_nothing_is_not_sent(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".figures")).to_be_visible()
    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    edited = page.get_by_label("Edited message")
    edited.fill(" ")
    page.locator("form.editing").get_by_role("button", name="Send").click()
    edited.fill(script(tokens=1, text="second"))
    page.locator("form.editing").get_by_role("button", name="Send").click()
    expect(answers(page).locator(".text")).to_have_text("second")
    expect(page.locator("article.user .versions")).to_have_text("2/2")
