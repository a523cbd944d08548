"""Chat in a real browser: what is written, stopped, edited, kept and shown of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from console.pages import answers, say, script
from playwright.sync_api import Page, Route, expect
from support.running.servers import Server

OpenPage = Callable[..., Page]

MARKED = (
    "# Primes\n\nThe **first** ones:\n\n```python\nprimes = [2, 3, 5]\n```\n\n| n | prime |\n| - | - |\n| 4 | no |\n\n"
    '<script>document.title = "taken"</script><img src="https://example.com/x.png" alt="far" onerror="alert(1)">'
    '<b style="position: fixed" onclick="alert(2)">bold</b> [link](javascript:alert(3))'
)


def test_answer_is_markdown_that_does_no_harm(scripted_server: Server, open_page: OpenPage) -> None:
    # They are in a document of the sanitiser's that runs nothing; the browser says so of each.
    page = open_page(scripted_server, blocked=("inline event handler", "inline style"))
    say(page, script(tokens=1, text=MARKED))
    answer = answers(page)
    expect(answer.get_by_role("heading", name="Primes")).to_be_visible()
    expect(answer.locator(".code")).to_contain_text("primes = [2, 3, 5]")
    expect(answer.locator(".code-head")).to_contain_text("python")
    expect(answer.locator(".code .hljs-number")).to_have_text(["2", "3", "5"])
    expect(answer.get_by_role("cell", name="no")).to_be_visible()
    expect(answer).to_contain_text("[far: https://example.com/x.png]")
    assert answer.locator("script, img, [style], [onclick], a[href^='javascript']").count() == 0
    assert page.title() == "Chat · mlx-server"


def test_boxes_of_a_task_list_are_signs_and_no_answer_has_a_field(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text='- [ ] todo\n- [x] done\n\nYour key: <input type="text" value="?"> please'))
    answer = answers(page)
    expect(answer.get_by_role("listitem")).to_have_text(["☐ todo", "☑ done"])
    expect(answer).to_contain_text("Your key: please")
    assert answer.locator("input").count() == 0


def test_answer_streams_and_tells_how_fast_it_came(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=30, interval_s=0.05))
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page)).to_contain_text("token token")
    assert answers(page).locator(".figures").count() == 0, "it is still being written"
    expect(answers(page).locator(".figures")).to_have_text(
        re.compile(r"^[\d.]+ tokens/s · first token [\d.]+ m?s · 30 tokens · prompt 1")
    )
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_message_waits_until_it_is_known_which_models_there_are(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server, "logs")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/models", hold)
    with page.expect_request("**/v1/models"):
        page.get_by_role("link", name="Chat").click()
    say(page, words := script(tokens=2))
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.get_by_label("Message", exact=True)).to_have_value(words)
    expect(page.get_by_role("article")).to_have_count(0)
    [asked] = held
    asked.continue_()
    expect(answers(page).locator(".figures")).to_contain_text("2 tokens")


def test_message_stays_where_the_server_can_not_say_which_models_there_are(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server, "logs")
    refusal = {"error": {"message": "Too many requests."}, "detail": "Too many requests."}
    page.route("**/v1/models", lambda route: route.fulfill(status=429, json=refusal))
    page.get_by_role("link", name="Chat").click()
    expect(page.locator(".notice")).to_have_text("Too many requests.")
    say(page, words := script(tokens=2))
    expect(page.locator(".notice")).to_have_count(2)
    expect(page.get_by_label("Message", exact=True)).to_have_value(words)
    page.unroute("**/v1/models")
    page.keyboard.press("Enter")
    expect(answers(page).locator(".figures")).to_contain_text("2 tokens")


def test_edit_stays_where_the_server_can_not_say_which_models_there_are(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".text")).to_have_text("first")
    page.get_by_role("link", name="Logs").click()
    page.route("**/v1/models", lambda route: route.abort())
    page.get_by_role("link", name="Chat").click()
    expect(page.locator(".notice")).to_have_count(1)
    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edited message").fill(script(tokens=1, text="second"))
    page.locator("form.editing").get_by_role("button", name="Send").click()
    expect(page.locator(".notice")).to_have_count(2)
    page.unroute("**/v1/models")
    page.locator("form.editing").get_by_role("button", name="Send").click()
    expect(answers(page).locator(".text")).to_have_text("second")


def test_answer_that_came_at_once_has_no_pace(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    page.route("**/v1/chat/completions", lambda route: route.fulfill(response=route.fetch()))
    say(page, script(tokens=2))
    expect(answers(page).locator(".figures")).to_have_text(re.compile(r"^first token [\d.]+ m?s · 2 tokens · prompt 1"))


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_answer_is_stopped_and_its_place_is_free(scripted_server: Server, open_page: OpenPage, how: str) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=100_000, interval_s=0.01))
    expect(answers(page)).to_contain_text("token")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press(how)
    expect(page.get_by_text("stopped")).to_be_visible()
    scripted_server.wait_stats(active_requests=0)


def test_answers_and_edits_are_branches_that_a_reload_keeps(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".text")).to_have_text("first")
    page.get_by_role("button", name="Answer again").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    page.get_by_role("button", name="Earlier version").click()
    expect(page.get_by_text("1/2")).to_be_visible()
    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edited message").fill(script(tokens=1, text="second"))
    page.locator("form.editing").get_by_role("button", name="Send").click()
    expect(answers(page).locator(".text")).to_have_text("second")
    page.reload()
    expect(answers(page).locator(".text")).to_have_text("second")
    page.locator("article.user").hover()
    page.locator("article.user").get_by_role("button", name="Earlier version").click()
    expect(answers(page).locator(".text")).to_have_text("first")


def test_edit_that_is_not_sent_is_kept_while_another_view_is_looked_at(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    say(page, script(tokens=1, text="first"))
    expect(answers(page).locator(".text")).to_have_text("first")
    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edited message").fill("half a tho")
    page.get_by_role("link", name="Now").click()
    with page.expect_response("**/v1/audio/voices"):
        page.get_by_role("link", name="Chat", exact=True).click()
    expect(page.get_by_label("Edited message")).to_have_value("half a tho")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("article.user .text")).to_contain_text("first")


def test_conversations_are_searched_and_deleted(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    for word in ("apples", "pears"):
        page.get_by_role("button", name="New chat").click()
        say(page, word)
        expect(answers(page).locator(".figures")).to_be_visible()
    listed = page.get_by_label("Conversations").locator("li")
    expect(listed).to_have_count(2)
    page.get_by_label("Search chats").fill("pear")
    expect(listed).to_have_text([re.compile("pears")])
    page.get_by_role("button", name="Delete pears").click()
    page.get_by_label("Search chats").fill("")
    expect(listed).to_have_text([re.compile("apples")])
    expect(page.get_by_text("Write a message to begin.")).to_be_visible()


def test_parameters_and_the_system_prompt_are_sent_and_shown_as_code(
    scripted_server: Server, open_page: OpenPage
) -> None:
    page = open_page(scripted_server)
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top k").fill("20")
    page.get_by_label("Stop at").fill("END")
    page.get_by_label("Tools").fill("[{")
    page.get_by_label("Stop at").click()
    assert "no JSON" in page.get_by_label("Tools").evaluate("area => area.validationMessage")
    page.get_by_label("Tools").fill("")
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page, "It's one")
    body = json.loads(sent.value.post_data or "")
    assert (body["temperature"], body["top_k"], body["stop"]) == (0.2, 20, ["END"])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "It's one"},
    ]
    expect(answers(page).locator(".figures")).to_be_visible()
    page.get_by_role("button", name="Copy as curl or Python").click()
    curl, python = page.get_by_role("dialog").locator("pre").all_inner_texts()
    assert f"curl {scripted_server.url}/chat/completions" in curl
    assert "It's one" in curl
    assert 'extra_body={\n        "top_k": 20,\n    },' in python
    compile(python, "chat.py", "exec")


def test_keyboard_alone_reaches_everything(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("one two")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("three")
    page.keyboard.press("Enter")
    expect(answers(page).locator(".figures")).to_contain_text("3 tokens")
    focused: list[str] = []
    while not focused or focused[-1] != "Skip to the content":
        page.keyboard.press("Shift+Tab")
        focused.append(page.evaluate("(({ ariaLabel, innerText }) => ariaLabel ?? innerText)(document.activeElement)"))
        assert len(focused) < 60, focused
    assert {"Answer again", "Copy message", "Edit", "Model", "New chat", "Models", "Settings"} <= set(focused)
