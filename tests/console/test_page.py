"""The page itself: where it is, what it may load, and whose code it is made of."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace

import pytest
from console.node.libraries import FILES, HERE, MODULES, PACKAGED
from console.pages import ELSEWHERE, answers, say, script
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient
from support.running.servers import ROOT, Server

from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.server.server import create_app

OpenPage = Callable[..., Page]
FOLDER = ROOT / "app" / "web" / "console"
SETTINGS = Settings(models=(ModelSettings("scripted", "scripted"),), response_store="memory", api_keys=(ApiKey("k"),))
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
IMPORTED = re.compile(r'^import .*?"(\.[^"]+)";$', re.MULTILINE)

npm = pytest.mark.skipif(not MODULES.is_dir(), reason="npm is missing: `make node` says how to get it")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    limited = replace(SETTINGS, data_dir=tmp_path_factory.mktemp("data"), rate_limit="3/minute")
    return TestClient(create_app(limited))


def test_page_and_its_files_need_no_key_and_load_nothing_from_elsewhere(keyed: TestClient) -> None:
    page = keyed.get("/", headers=BROWSER)
    assert (page.status_code, page.headers["vary"]) == (200, "Accept")
    assert not re.findall(r"<style|<script>|://", page.text)
    files = re.findall(r'(?:src|href)="(/console/[^"]+)"', page.text)
    assert len(files) >= 6
    for file in files:
        answer = keyed.get(file)
        assert (file, answer.status_code) == (file, 200), "the rate limit counts no files of the page"
        for headers in (page.headers, answer.headers):
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert not re.findall("unsafe|http", policy)
            assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-cache")


def test_unchanged_files_are_not_sent_again(keyed: TestClient) -> None:
    first = keyed.get("/console/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = keyed.get("/console/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["nothing.js", "", "..%2Fdocs.html", "%2e%2e/docs.js", "chat"])
def test_no_other_files_are_given_out(keyed: TestClient, path: str) -> None:
    assert keyed.get(f"/console/{path}").status_code == 404


def test_every_file_is_used_and_packaged() -> None:
    used = {FOLDER / "index.html", *(FOLDER / "libraries").glob("*.LICENSE")}
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    waiting = [FOLDER / name for name in re.findall(r'"/console/([^"]+)"', index)]
    while waiting:
        file = waiting.pop()
        if file not in used:
            used.add(file)
            if file.suffix == ".js":
                waiting += [
                    (file.parent / name).resolve() for name in IMPORTED.findall(file.read_text(encoding="utf-8"))
                ]
    assert used == {path for path in FOLDER.rglob("*") if path.is_file()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [pattern] = project["tool"]["setuptools"]["package-data"]["mlx_server.app"]
    assert used <= set((ROOT / "app").glob(pattern))


@npm
@pytest.mark.parametrize("name", FILES)
def test_library_is_what_npm_has_of_the_version_in_the_lock_file(name: str) -> None:
    assert (PACKAGED / name).read_bytes() == (MODULES / FILES[name]).read_bytes(), "run tests/console/node/libraries.py"


@npm
def test_types_in_comments_hold() -> None:
    done = subprocess.run(
        ["npx", "--no-install", "tsc", "--project", ".", "--pretty", "false"], cwd=HERE, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ") and "/libraries/" not in line]
    assert (lines, done.stderr) == ([], "")


@npm
def test_scripts_and_styles_are_formatted() -> None:
    done = subprocess.run(["npm", "run", "--silent", "formatted"], cwd=HERE, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run `npm run format` in {HERE}"


def test_files_are_short() -> None:
    ours = [path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css") and path.parent.name != "libraries"]
    assert {path.name: n for path in ours if (n := len(path.read_text(encoding="utf-8").splitlines())) > 250} == {}


@pytest.mark.parametrize("view", ["chat", "now", "models", "logs", "settings"])
def test_address_opens_a_view(scripted_server: Server, open_page: OpenPage, view: str) -> None:
    page = open_page(scripted_server, view)
    link = page.get_by_role("link", name=view.capitalize(), exact=True)
    expect(link).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("region", name=view.capitalize(), exact=True)).to_be_visible()
    assert page.title() == f"{view.capitalize()} · mlx-server"


def test_page_works_from_another_machine_without_https(scripted_server: Server, open_page: OpenPage) -> None:
    page = open_page(scripted_server, host=ELSEWHERE)
    assert page.evaluate("isSecureContext") is False
    say(page, script(tokens=1, text="`copied`"))
    expect(answers(page)).to_contain_text("copied")
    answers(page).get_by_role("button", name="Copy message").click()
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Control+V")
    expect(page.get_by_label("Message", exact=True)).to_have_value("`copied`")
    page.get_by_role("link", name="Models").click()
    page.clock.install()
    page.get_by_role("button", name="Pin scripted").click()
    expect(page.locator(".notice")).to_contain_text("The Host header must name this machine")
    page.clock.run_for(8_000)
    expect(page.locator(".notice"), "it takes longer to read").to_be_visible()
    page.clock.run_for(20_000)
    expect(page.locator(".notice")).to_have_count(0)
