"""Two tabs of one browser: what they say in one conversation, what one deletes, and a disk that is full."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from console.pages import answers, say, script
from playwright.sync_api import Page, expect
from support.running.servers import Server, wait_for

OpenPage = Callable[..., Page]

DEAF = 'Object.defineProperty(BroadcastChannel.prototype, "onmessage", { set() {} })'
"""What other tabs tell is missed, as it is by one that is about to put something."""

KEPT = """() => new Promise((resolve) => {
  indexedDB.open("mlx-server").onsuccess = ({ target: { result: database } }) => {
    const counted = database.transaction("conversations").objectStore("conversations").count();
    counted.onsuccess = () => { database.close(); resolve(counted.result); };
  };
})"""
"""How many conversations there are on the disk."""


FULL = """() => {
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (...given) {
    const request = put.apply(this, given);
    request.addEventListener("success", () => this.transaction.abort());
    return request;
  };
}"""
"""A disk of which the browser finds out that it is full when it ends what has succeeded."""


WORDS_KEPT = """() => new Promise((resolve) => {
  indexedDB.open("mlx-server").onsuccess = ({ target: { result: database } }) => {
    const all = database.transaction("conversations").objectStore("conversations").getAll();
    all.onsuccess = () => {
      database.close();
      resolve(all.result.flatMap(({ messages }) => Object.values(messages)).map(({ text }) => text));
    };
  };
})"""
"""What messages there are on the disk."""

LATER = "const { now } = Date; Date.now = () => now() + 3_600_000"
"""The clock of a tab that is opened an hour later."""


def second_tab(page: Page, hears: bool) -> Page:
    """Another tab of the same browser, at the same conversation."""
    other = page.context.new_page()
    if not hears:
        other.add_init_script(DEAF)
    other.goto(page.url)
    expect(answers(other)).to_have_count(1)
    return other


def set_temperature(page: Page, value: str) -> None:
    """By the panel, which is closed."""
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Temperature").fill(value)
    page.get_by_label("Temperature").blur()


@pytest.mark.parametrize("hears", [True, False])
def test_what_both_tabs_say_and_set_is_kept(scripted_server: Server, open_page: OpenPage, hears: bool) -> None:
    page = open_page(scripted_server)
    figures, texts = answers(page).locator(".figures"), answers(page).locator(".text")
    say(page, script(tokens=40, interval_s=0.05))
    expect(answers(page)).to_contain_text("token")
    other = second_tab(page, hears)
    expect(figures).to_have_count(1)
    say(page, script(tokens=1, text="second"))
    expect(figures).to_have_count(2)
    said = texts.all_inner_texts()
    if hears:
        expect(answers(other).locator(".text")).to_have_text(said)
    set_temperature(other, "0.5")
    page.get_by_role("button", name="Parameters").click()
    expect(page.get_by_label("Temperature")).to_have_value("0.5")
    page.reload()
    expect(texts).to_have_text(said)
    say(other, script(tokens=1, text="third"))
    for tab in (other, page):
        expect(answers(tab).locator(".text")).to_have_text([*said, "third"])
        expect(answers(tab).locator(".figures")).to_have_count(3)


@pytest.mark.parametrize("hears", [True, False])
def test_conversation_that_one_tab_deletes_stays_deleted(
    scripted_server: Server, open_page: OpenPage, hears: bool
) -> None:
    page = open_page(scripted_server)
    say(page, "first")
    expect(answers(page).locator(".figures")).to_be_visible()
    other = second_tab(page, hears)
    page.get_by_role("button", name="Delete first").click()
    wait_for(lambda: page.evaluate(KEPT) == 0)
    if not hears:
        set_temperature(other, "0.5")
    expect(answers(other)).to_have_count(0)
    for tab in (page, other):
        tab.reload()
        expect(tab.get_by_text("Write a message to begin.")).to_be_visible()
        expect(tab.get_by_label("Conversations").locator("li")).to_have_count(0)


def test_conversation_that_is_new_in_one_tab_is_listed_in_the_other(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, "first")
    expect(answers(page).locator(".figures")).to_be_visible()
    other = second_tab(page, hears=True)
    page.get_by_role("button", name="New chat").click()
    say(page, "second")
    other.get_by_label("Conversations").get_by_role("button", name="second").first.click()
    expect(answers(other).locator(".figures")).to_contain_text("1 token")


def test_chat_that_a_full_disk_does_not_take_is_told_of(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".figures")).to_be_visible()
    page.evaluate(FULL)
    say(page, script(tokens=1, text="second"))
    expect(page.locator(".notice").first).to_contain_text("This chat could not be kept:")
    expect(answers(page).locator(".text")).to_have_text(["first", "second"])


def test_answer_ends_with_what_has_come_where_its_page_is_loaded_anew(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=100_000, interval_s=0.02, text="word "))
    text = answers(page).locator(".text")
    expect(text).to_contain_text("word word")
    before = text.inner_text()
    page.reload()
    expect(text).to_contain_text(before)
    expect(answers(page).locator(".figures")).to_have_text("stopped")
    scripted_server.wait_stats(active_requests=0)


def test_answer_is_kept_while_it_comes(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=100_000, interval_s=0.02, text="word "))
    wait_for(lambda: any(text.startswith("word word") for text in page.evaluate(WORDS_KEPT)))
    other = second_tab(page, hears=True)
    expect(answers(other)).to_contain_text("word word")
    expect(answers(other).locator(".figures"), "it is still being written").to_have_count(0)
    other.add_init_script(LATER)
    other.reload()
    expect(answers(other)).to_contain_text("word word")
    expect(answers(other).locator(".figures"), "as if its page had been lost long ago").to_have_text("stopped")
    page.keyboard.press("Escape")
    scripted_server.wait_stats(active_requests=0)
