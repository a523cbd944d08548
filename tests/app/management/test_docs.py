"""Swagger UI: all of it from this server, for everybody, and the document behind a key where there is one."""

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.server.server import create_app

SETTINGS = Settings(models=(ModelSettings("scripted", "scripted"),), response_store="memory", api_keys=(ApiKey("k"),))


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(create_app(replace(SETTINGS, data_dir=tmp_path_factory.mktemp("data"))))


@pytest.mark.parametrize("path", ["/docs", "/api/docs"])
def test_page_needs_no_key_and_loads_nothing_from_elsewhere(keyed: TestClient, path: str) -> None:
    page = keyed.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "<script>" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 4
    for file in files:
        answer = keyed.get(file)
        assert (file, answer.status_code) == (file, 200)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_swagger_ui_knows_openapi_3_1(keyed: TestClient) -> None:
    assert "isOAS31" in keyed.get("/docs/assets/swagger-ui-bundle.js").text


@pytest.mark.parametrize("name", ["nothing.js", "swagger-ui-bundle.js.map", "..%2Fdocs.html", "index.html"])
def test_no_other_files_are_given_out(keyed: TestClient, name: str) -> None:
    assert keyed.get(f"/docs/assets/{name}", headers={"x-api-key": "k"}).status_code == 404


def test_document_is_the_same_at_both_places_and_needs_the_key(keyed: TestClient) -> None:
    for path in ("/openapi.json", "/api/docs/openapi.json"):
        assert keyed.get(path).status_code == 401
    first, second = (
        keyed.get(path, headers={"x-api-key": "k"}) for path in ("/openapi.json", "/api/docs/openapi.json")
    )
    assert first.content == second.content
    assert first.json()["openapi"].startswith("3.1")


def test_errors_below_api_say_more(keyed: TestClient) -> None:
    for headers, status in (({}, 401), ({"x-api-key": "k"}, 404)):
        answer = keyed.get("/api/nothing", headers=headers)
        assert answer.status_code == status
        body = answer.json()
        assert body.keys() == {"error", "detail", "details", "timestamp"}
        assert body["details"] == [body["detail"]] == [body["error"]["message"]]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", body["timestamp"])
    assert keyed.get("/apiary", headers={"x-api-key": "k"}).json().keys() == {"error", "detail"}


def test_operations_stand_in_groups_with_chat_first(keyed: TestClient) -> None:
    document = keyed.get("/openapi.json", headers={"x-api-key": "k"}).json()
    names = [tag["name"] for tag in document["tags"]]
    tags = {path: operation["tags"] for path, item in document["paths"].items() for operation in item.values()}
    assert all(len(tag) == 1 and tag[0] in names for tag in tags.values())
    assert {tag for [tag] in tags.values()} == set(names)
    assert next(iter(tags)) == "/v1/chat/completions"
    assert (tags["/"], tags["/v1/rerank"], tags["/api/models/load"]) == (
        ["Server"],
        ["Embeddings and reranking"],
        ["Impetus"],
    )
