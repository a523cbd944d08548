"""What the chat does with models that see, think, call functions, draw, hear and speak."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from console.pages import answers, say, script
from playwright.sync_api import Page, Route, expect
from support.inputs.said import HERMES
from support.running.parrot import make_parrot
from support.running.servers import ROOT, Server, serving
from support.sounds import wav
from support.tiny.hearing import make_hearing
from support.tiny.speaking import make_speaking
from support.tiny.vision_models import make_vision_model

pytestmark = pytest.mark.model

OpenPage = Callable[..., Page]
CIRCLE = ROOT / "examples" / "data" / "red_circle.png"
CALL = '{"name": "weather", "arguments": {"city": "Paris"}}'
SAID = f"<think>\nIt wants the weather.\n</think>\n\n<tool_call>\n{CALL}\n</tool_call>"
PLAIN = "It is a fine day."
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]

DROP = """([place, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "circle.png", { type: "image/png" }));
  const event = place === "drop" ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true });
  document.querySelector(place === "drop" ? ".thread" : ".composer textarea").dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A model that thinks, calls and answers, and the messages to which it does."""
    folder = tmp_path_factory.mktemp("thinker") / "thinker"
    return folder, make_parrot(folder, HERMES, [SAID, PLAIN])


@pytest.fixture(scope="module")
def server(said: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("voices")
    models = {
        "thinker": said[0],
        "shapes": ROOT / "tests/shapes/model",
        "painter": ROOT / "tests/drawing/model",
        "reader": make_speaking(folder / "reader", "pocket_tts"),
        "listener": make_hearing(folder / "listener", "moonshine"),
        "ears": make_vision_model(tmp_path_factory.mktemp("ears"), "gemma4"),
    }
    with serving(*(part for name, path in models.items() for part in ("--model", f"{name}={path}"))) as server:
        yield server


@pytest.mark.parametrize("way", ["drop", "paste", "picker"])
def test_picture_is_shown_to_a_model_that_sees(server: Server, open_page: OpenPage, way: str) -> None:
    page = open_page(server)
    page.get_by_label("Model", exact=True).select_option("shapes")
    expect(page.get_by_text("It sees pictures")).to_be_visible()
    if way == "picker":
        page.locator("input[type=file]").set_input_files(CIRCLE)
    else:
        page.evaluate(DROP, [way, base64.b64encode(CIRCLE.read_bytes()).decode()])
    expect(page.locator(".composer .file img")).to_be_visible()
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Temperature").fill("0")
    say(page, "Describe the picture.")
    expect(answers(page)).to_contain_text("a red circle at the top left")
    expect(page.locator("article.user .file img")).to_be_visible()


def test_picture_is_refused_for_a_model_that_sees_none(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    page.locator("input[type=file]").set_input_files(CIRCLE)
    expect(page.get_by_text("thinker takes no pictures.")).to_be_visible()


def test_thoughts_are_folded_and_calls_get_results(
    server: Server, open_page: OpenPage, said: tuple[Path, list[str]]
) -> None:
    page = open_page(server)
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tools").fill(json.dumps(TOOLS))
    say(page, said[1][0])
    expect(page.get_by_text("calls weather")).to_be_visible()
    expect(page.locator(".call pre")).to_contain_text('"city": "Paris"')
    thoughts = page.get_by_text("It wants the weather.")
    expect(thoughts).to_be_hidden()
    page.get_by_text("Reasoning", exact=True).click()
    expect(thoughts).to_be_visible()
    result = page.get_by_label("Result of weather")
    result.fill("It rai")
    page.get_by_role("link", name="Now").click()
    with page.expect_response("**/v1/audio/voices"):
        page.get_by_role("link", name="Chat", exact=True).click()
    for model in ("shapes", "thinker"):
        page.get_by_label("Model", exact=True).select_option(model)
    expect(result).to_have_value("It rai")
    result.fill("It rains.")
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("button", name="Give results").click()
    asking, called, given = json.loads(sent.value.post_data or "")["messages"]
    assert asking["content"] == said[1][0]
    [call] = called["tool_calls"]
    assert (call["function"]["name"], given["role"], given["content"]) == ("weather", "tool", "It rains.")
    assert call["id"] == given["tool_call_id"]
    expect(answers(page)).to_have_count(2)
    expect(answers(page).first.get_by_label("Result of weather")).to_have_count(0)


def test_picture_is_drawn(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_label("Model", exact=True).select_option("painter")
    expect(page.get_by_text("It draws what you describe.")).to_be_visible()
    say(page, "a red circle")
    picture = answers(page).get_by_alt_text("The picture that was drawn")
    expect(picture).to_be_visible(timeout=60_000)
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_picture_is_changed(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_label("Model", exact=True).select_option("painter")
    page.locator("input[type=file]").set_input_files(CIRCLE)
    expect(page.locator(".composer .file img")).to_be_visible()
    with page.expect_response("**/v1/images/edits", timeout=60_000) as changed:
        say(page, "a red circle at the top left")
    assert changed.value.ok
    picture = answers(page).get_by_alt_text("The picture that was drawn")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_answer_is_read_aloud(server: Server, open_page: OpenPage, said: tuple[Path, list[str]]) -> None:
    page = open_page(server)
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Temperature").fill("0")
    say(page, said[1][1])
    expect(answers(page)).to_contain_text(PLAIN)
    with page.expect_response("**/v1/audio/speech", timeout=60_000) as spoken:
        page.get_by_role("button", name="Read aloud").click()
    assert spoken.value.headers["content-type"] == "audio/mpeg"
    assert json.loads(spoken.value.request.post_data or "")["input"] == PLAIN


def test_sound_is_heard_by_a_model_that_hears(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server)
    expect(page.get_by_text("It hears sounds")).to_be_visible()
    sound = {"name": "tone.wav", "mimeType": "audio/wav", "buffer": wav(0.5)}
    page.locator("input[type=file]").set_input_files(files=[sound])
    expect(page.locator(".composer .file audio")).to_be_visible()
    say(page, script(tokens=1, media=True))
    [heard] = json.loads(answers(page).locator(".text").inner_text())
    assert (heard["kind"], heard["sha256"]) == ("audio", hashlib.sha256(wav(0.5)).hexdigest())


def test_sound_becomes_a_part_of_a_real_models_prompt(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_label("Model", exact=True).select_option("ears")
    expect(page.get_by_text("It hears sounds")).to_be_visible()
    page.get_by_role("button", name="Parameters").click()
    page.get_by_label("Longest answer").fill("3")
    say(page, "Hear this.")
    figures = answers(page).locator(".figures")
    expect(figures).to_have_count(1)
    page.get_by_role("button", name="New chat").click()
    sound = {"name": "tone.wav", "mimeType": "audio/wav", "buffer": wav(1.0)}
    page.locator("input[type=file]").set_input_files(files=[sound])
    expect(page.locator(".composer .file audio")).to_be_visible()
    say(page, "Hear this.")
    expect(figures).to_contain_text("3 tokens")


def test_sound_is_written_down_for_a_model_that_hears_nothing(server: Server, open_page: OpenPage) -> None:
    page = open_page(server)
    expect(page.get_by_label("Model", exact=True)).to_have_value("thinker")
    sound = {"name": "tone.wav", "mimeType": "audio/wav", "buffer": wav(0.5)}
    with page.expect_response("**/v1/audio/transcriptions", timeout=60_000) as heard:
        page.locator("input[type=file]").set_input_files(files=[sound])
    assert heard.value.ok
    expect(page.locator(".composer .file")).to_contain_text("tone.wav")


@pytest.mark.parametrize("end", ["read", "refused", "removed"])
def test_message_waits_for_its_files(server: Server, open_page: OpenPage, end: str) -> None:
    page = open_page(server)
    expect(page.get_by_label("Model", exact=True)).to_have_value("thinker")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/audio/transcriptions", hold)
    sound = {"name": "tone.wav", "mimeType": "audio/wav", "buffer": wav(0.5)}
    with page.expect_request("**/v1/audio/transcriptions"):
        page.locator("input[type=file]").set_input_files(files=[sound])
    expect(page.get_by_text("Reading tone.wav")).to_be_visible()
    say(page, "What is said?")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.get_by_role("article")).to_have_count(0)
    [asked] = held
    if end == "removed":
        page.get_by_role("button", name="Remove tone.wav").click()
    elif end == "refused":
        asked.fulfill(status=429, json={"detail": "Too many requests."})
        expect(page.locator(".notice")).to_have_text("Too many requests.")
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        expect(page.get_by_role("article")).to_have_count(0)
        expect(page.get_by_label("Message", exact=True)).to_have_value("What is said?")
        page.keyboard.press("Enter")
    else:
        asked.continue_()
    expect(page.locator("article.user div.text")).to_have_text("What is said?")
    expect(page.locator("article.user .file")).to_have_count(1 if end == "read" else 0)
    expect(page.locator(".composer .file")).to_have_count(0)
