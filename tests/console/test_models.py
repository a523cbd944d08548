"""The models view in a real browser: loading, pinning, deleting, downloading and comparing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from console.pages import script
from playwright.sync_api import Error, Page, Route, expect
from support.running.hub import LocalHub, Repo, repo_of, running
from support.running.servers import Server, serving

OpenPage = Callable[..., Page]
TINY = "mlx-community/tiny-llama"
HUGE = "mlx-community/huge-llama"
HIDDEN = """cells => cells.filter(cell => {
  const { x, y, width, height } = cell.getBoundingClientRect();
  return !cell.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}).map(cell => cell.innerText)"""
"""Which of them have something over their middle."""


@pytest.fixture(scope="module")
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LocalHub]:
    """One model that comes slowly, and one that fits nowhere."""
    slow = repo_of(tiny_model("llama"), TINY, downloads=20, pause_s=0.3, parameters={"BF16": 10_000_000})
    huge = Repo(HUGE, slow.files, downloads=10, parameters={"BF16": 10**13})
    with running(LocalHub(slow, huge)) as local:
        yield local


@pytest.fixture(scope="module")
def server(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path_factory.mktemp("hub")), "HF_TOKEN": ""}
    models = ("--model-type", "scripted", "--model", "first=scripted", "--model", "second=scripted")
    with serving(*models, env=env) as server:
        server.wait_until(lambda: all(one["status"] == "loaded" for one in server.get("/v1/models").json()["data"]))
        yield server


def test_model_is_unloaded_and_loaded_by_the_keyboard(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    row = page.get_by_role("row", name="second")
    expect(row).to_contain_text("loaded")
    page.get_by_role("button", name="Unload second").focus()
    page.keyboard.press("Enter")
    load = page.get_by_role("button", name="Load second", exact=True)
    expect(load).to_be_focused()
    expect(row).to_contain_text("unloaded")
    expect(row).to_contain_text("fits")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Unload second")).to_be_enabled()
    expect(page.get_by_label(re.compile("are taken$"))).to_be_visible()


def test_what_others_do_is_seen_without_asking_again_and_again(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    expect(page.get_by_role("row", name="second")).to_contain_text("loaded")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert server.post("/v1/models/second/unload", b"").status_code == 200
    expect(page.get_by_role("button", name="Load second", exact=True)).to_be_visible()
    assert server.post("/v1/models/second/load", b"").status_code == 200
    expect(page.get_by_role("button", name="Unload second")).to_be_enabled()
    assert len([url for url in asked if url.endswith("/v1/models")]) <= 5, "once for each move"


def test_moves_between_two_events_leave_no_old_state(server: Server, open_page: OpenPage) -> None:
    """The page asks while a model moves, which is over when the next event comes, which is as the one before."""
    page = open_page(server, "chat")
    passing = server.get("/v1/models").json()
    next(one for one in passing["data"] if one["id"] == "second")["status"] = "unloading"
    page.route("**/v1/models", lambda route: route.fulfill(json=passing))
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("button", name="Load second", exact=True)).to_be_disabled()
    page.wait_for_timeout(1500)  # one event at least
    page.unroute("**/v1/models")
    expect(page.get_by_role("button", name="Unload second")).to_be_enabled()


def test_search_ends_the_one_before(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    search, found = page.get_by_label("Search the hub"), page.get_by_role("region", name="The hub").get_by_role("row")
    held: list[Route] = []
    page.route(re.compile("/v1/discover/models.*query=huge"), lambda route: hold(held, route))
    search.fill("huge")
    page.keyboard.press("Enter")
    while not held:
        page.wait_for_timeout(50)
    search.fill("tiny")
    page.keyboard.press("Enter")
    expect(found.filter(has_text=TINY)).to_be_visible()
    with contextlib.suppress(Error):  # who asked has left
        held[0].fulfill(json={"models": []})
    page.wait_for_timeout(200)
    expect(found.filter(has_text=TINY)).to_be_visible()


def hold(held: list[Route], route: Route) -> None:
    """Have a request wait; Playwright takes no method of a list."""
    held.append(route)


def test_model_is_pinned_and_a_configured_one_can_not_be_deleted(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    page.get_by_role("button", name="Pin first").click()
    expect(page.get_by_role("row", name="first")).to_contain_text("pinned")
    page.get_by_role("button", name="Unpin first").click()
    expect(page.get_by_role("button", name="Pin first")).to_be_visible()
    page.get_by_role("button", name="Delete first").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".notice")).to_contain_text("first")
    expect(page.get_by_role("row", name="first")).to_be_visible()


def test_model_of_the_hub_is_found_downloaded_paused_resumed_and_deleted(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    page.get_by_label("Search the hub").fill("llama")
    page.keyboard.press("Enter")
    found = page.get_by_role("region", name="The hub").get_by_role("row")
    expect(found.filter(has_text=HUGE)).to_contain_text("20,000.0 GB")  # a file's, as the hub has them
    expect(found.filter(has_text=HUGE)).to_contain_text(re.compile(r"[\d,]+\.\d GiB · too large"))
    expect(found.filter(has_text=TINY)).to_contain_text("20 MB")
    expect(found.filter(has_text=TINY)).to_contain_text(re.compile(r"\d MiB · fits"))
    page.get_by_role("button", name=f"Download {TINY}").click()
    going = page.get_by_role("region", name="Downloads").get_by_role("listitem")
    expect(going).to_contain_text("downloading")
    expect(going).to_contain_text(re.compile(r"[1-9][\d.]* %"))
    page.get_by_role("button", name=f"Pause {TINY}").click()
    expect(going).to_contain_text("paused")
    page.get_by_role("button", name=f"Resume {TINY}").click()
    expect(going.filter(has_text="complete")).to_be_visible()
    row = page.get_by_role("region", name="Models here").get_by_role("row", name=TINY)
    expect(row).to_be_visible()
    expect(found.filter(has_text=TINY)).to_contain_text("is here")
    choices = page.get_by_label("First model").get_by_role("option")
    expect(choices.filter(has_text=TINY)).to_have_count(1)
    page.get_by_role("button", name=f"Delete {TINY}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    expect(choices).to_have_text(["first", "second"])
    expect(page.get_by_role("button", name=f"Download {TINY}")).to_be_visible()
    assert TINY not in [one["id"] for one in server.get("/v1/models").json()["data"]]


def test_two_models_answer_side_by_side(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    expect(page.get_by_label("Second model")).to_have_value("second")
    page.get_by_label("Prompt for both").fill("one two three")
    page.get_by_role("button", name="Compare").click()
    answers = page.get_by_role("region", name="Compare").get_by_role("article")
    expect(answers).to_have_count(2)
    for name in ("first", "second"):
        expect(page.get_by_role("article", name=name)).to_contain_text("3 tokens")


def test_comparison_is_stopped_by_the_keyboard(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models")
    expect(page.get_by_label("Second model")).to_have_value("second")
    page.get_by_label("Prompt for both").fill(script(tokens=100_000, interval_s=0.01))
    part = page.get_by_role("region", name="Compare")
    part.get_by_role("button", name="Compare").press("Enter")
    for name in ("first", "second"):
        expect(page.get_by_role("article", name=name)).to_contain_text("token token")
    page.keyboard.press("Enter")
    for name in ("first", "second"):
        expect(page.get_by_role("article", name=name)).to_contain_text("stopped")
    server.wait_stats(active_requests=0)
    expect(part.get_by_role("button", name="Compare")).to_be_focused()


def test_all_of_a_model_is_at_hand_on_a_phone(server: Server, open_page: OpenPage) -> None:
    page = open_page(server, "models", viewport={"width": 390, "height": 844})
    for name in ("Unload first", "Pin first", "Delete first"):
        expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
    cells = page.get_by_role("row", name="first").get_by_role("cell")
    expect(cells).to_have_count(7)
    for cell in cells.all():
        expect(cell).to_be_in_viewport(ratio=1)
    # All in one look: the rows are made anew whenever the server tells of a change.
    assert cells.evaluate_all(HIDDEN) == []


def test_broken_hub_is_told(server: Server, open_page: OpenPage, hub: LocalHub) -> None:
    page = open_page(server, "models")
    hub.status = 500
    page.get_by_label("Search the hub").fill("qwen")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="hub")).to_be_visible()
    hub.status = 0
