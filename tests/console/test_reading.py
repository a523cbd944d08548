"""Answers that are read aloud: what is said of them, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from console.pages import answers, say, script
from playwright.sync_api import Page, Route, expect
from support.running.servers import Server, wait_for
from support.sounds import wav

OpenPage = Callable[..., Page]

VOICES = {"data": [{"id": "alba", "model": "reader"}]}
SENTENCE = "Sentence {} says as much as all the others do."
LION = "\N{LION FACE}a"
CODE = "```python\nprimes = [2, 3, 5]\n```"

HEARD = "[...played].filter((sound) => !sound.paused).length"
PLAYED = """() => {
  const { play } = HTMLMediaElement.prototype;
  window.played = new Set();
  HTMLMediaElement.prototype.play = function () {
    played.add(this);
    return play.call(this);
  };
}"""
"""Notes what the page plays."""


def open_with_voice(server: Server, open_page: OpenPage, seconds: float) -> tuple[Page, list[str]]:
    """The chat of a server that speaks, each time for so long, and what it is asked to say."""
    said: list[str] = []

    def speak(route: Route) -> None:
        said.append(json.loads(route.request.post_data or "")["input"])
        route.fulfill(body=wav(seconds), content_type="audio/wav")

    page = open_page(server, "logs")
    page.evaluate(PLAYED)
    page.route("**/v1/audio/voices", lambda route: route.fulfill(json=VOICES))
    page.route("**/v1/audio/speech", speak)
    page.get_by_role("link", name="Chat").click()
    return page, said


def test_long_answer_is_read_as_words_in_pieces(scripted_server: Server, open_page: OpenPage) -> None:
    page, said = open_with_voice(scripted_server, open_page, 0.05)
    sentences = [SENTENCE.format(number) for number in range(200)]
    text = f"# Primes\n\nThe **first** ones\n\n- `two`\n- three\n\n{CODE}\n\n{' '.join(sentences)}"
    say(page, script(tokens=1, text=text))
    page.get_by_role("button", name="Read aloud").click()
    expect(page.get_by_role("button", name="Stop reading")).to_be_visible()
    expect(page.get_by_role("button", name="Read aloud")).to_be_visible()
    assert " ".join(said).split() == ["Primes", "The", "first", "ones", "two", "three", *" ".join(sentences).split()]
    assert max(map(len, said)) <= 500
    assert {piece[-1] for piece in said} == {"."}
    assert [line for line in said[0].split("\n") if line][:4] == ["Primes", "The first ones", "two", "three"]


def test_sentence_without_end_is_read_and_code_alone_is_not(scripted_server: Server, open_page: OpenPage) -> None:
    page, said = open_with_voice(scripted_server, open_page, 0.05)
    say(page, script(tokens=1, text="word " * 200 + LION * 600))
    page.get_by_role("button", name="Read aloud").click()
    expect(page.get_by_role("button", name="Stop reading")).to_be_visible()
    expect(page.get_by_role("button", name="Read aloud")).to_be_visible()
    assert "".join(said).replace(" ", "") == "word" * 200 + LION * 600
    assert max(map(len, said)) <= 500
    said.clear()
    page.get_by_role("button", name="New chat").click()
    say(page, script(tokens=1, text=CODE))
    page.get_by_role("button", name="Read aloud").click()
    expect(page.locator(".notice")).to_have_text("There are no words in it to read aloud.")
    expect(page.get_by_role("button", name="Read aloud")).to_be_visible()
    assert said == []


@pytest.mark.parametrize("how", ["button", "Escape", "another version", "another conversation"])
def test_reading_is_ended_once_more_has_been_said(scripted_server: Server, open_page: OpenPage, how: str) -> None:
    page, said = open_with_voice(scripted_server, open_page, 30)
    say(page, script(tokens=1, text="first"))
    with page.expect_response("**/v1/audio/speech"):
        page.get_by_role("button", name="Read aloud").click()
    stop = page.get_by_role("button", name="Stop reading")
    expect(stop).to_be_focused()
    wait_for(lambda: page.evaluate(HEARD) == 1)
    say(page, script(tokens=100_000, interval_s=0.01))
    expect(answers(page)).to_have_count(2)
    expect(answers(page).first.get_by_role("button", name="Stop reading")).to_have_count(1)
    if how == "button":
        stop.click()
        expect(answers(page).first.get_by_role("button", name="Read aloud")).to_be_focused()
    elif how == "Escape":
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    elif how == "another version":
        answers(page).first.get_by_role("button", name="Answer again").click()
    else:
        page.get_by_role("button", name="New chat").click()
        page.get_by_label("Conversations").locator("li button").first.click()
    expect(stop).to_have_count(0)
    assert page.evaluate(HEARD) == 0
    assert said == ["first"]
    page.get_by_label("Message", exact=True).press("Escape")
    scripted_server.wait_stats(active_requests=0)
