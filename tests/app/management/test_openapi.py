"""The OpenAPI document: complete, valid, and what the server does."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from support.running.servers import SCRIPTED, Server, serving

from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.openapi.documentation import DOCS
from mlx_server.app.openapi.openapi import MEANINGS, docs_of, document, path_of
from mlx_server.app.openapi.route_doc import Doc
from mlx_server.app.server.server import ROUTES, create_app
from mlx_server.schemas.openai.chat import ChatRequest

METHODS = {"get", "head", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What a server tells of itself, without a worker: the document does not need one."""
    client = TestClient(create_app(Settings(models=(ModelSettings("scripted", "scripted"),))))
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert client.get("/openapi.json").content == answer.content
    return dict(answer.json())


def test_document_is_valid(given: dict[str, Any]) -> None:
    validate(given)
    assert given["openapi"].startswith("3.1.")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_documented(route: Route) -> None:
    assert docs_of(route, DOCS).keys() == route.methods, "add a line to app/openapi/documentation.py"


def test_every_documentation_is_of_a_route() -> None:
    documented = {name.rpartition(" ")[2] for name in DOCS}
    assert documented == {path_of(route) for route in ROUTES}


def test_document_has_the_routes_real_methods(given: dict[str, Any]) -> None:
    methods = {path: {method.upper() for method in item} for path, item in given["paths"].items()}
    assert methods == {path_of(route): route.methods for route in ROUTES}


def _operations(given: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in given["paths"].items():
        for method in item.keys() & METHODS:
            yield path, method, item[method]


def test_errors_have_the_one_shape_and_a_meaning(given: dict[str, Any]) -> None:
    for path, method, operation in _operations(given):
        assert "401" in operation["responses"]
        for status, answer in operation["responses"].items():
            assert answer["description"]
            if int(status) in MEANINGS and method != "head" and int(status) not in DOCS[path].also:
                doc = DOCS.get(f"{method.upper()} {path}") or DOCS[path]
                shape = {"$ref": f"#/components/schemas/{doc.error.__name__}"}
                assert answer["content"] == {"application/json": {"schema": shape}}


def test_a_generating_endpoint_documents_all_that_may_happen(given: dict[str, Any]) -> None:
    operation = given["paths"]["/v1/chat/completions"]["post"]
    assert set(operation["responses"]) == {"200", *map(str, (400, 401, 403, 409, 413, 429, 500, 502, 503, 504))}
    assert "Retry-After" in operation["responses"]["429"]["headers"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatRequest"}
    answers = operation["responses"]["200"]["content"]
    assert answers["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatCompletion"}
    chunk, done = answers["text/event-stream"]["schema"]["properties"]["data"]["anyOf"]
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in ("ChatChunk", "ErrorBody")]
    assert chunk["contentSchema"] == {"anyOf": kinds}
    assert done == {"const": "[DONE]"}


def test_headers_that_an_answer_may_have_are_told(given: dict[str, Any]) -> None:
    headers = given["paths"]["/v1/responses"]["post"]["responses"]["200"]["headers"]
    assert headers.keys() == {
        "X-Request-Id",
        "X-Ignored-Fields",
        "X-Dropped-Messages",
        "X-Prompt-Cache",
        "Idempotent-Replayed",
    }
    assert all(ref == {"$ref": f"#/components/headers/{name}"} for name, ref in headers.items())
    assert given["components"]["headers"].keys() >= headers.keys()


def test_every_field_of_a_request_is_in_its_schema(given: dict[str, Any]) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(ChatRequest)}
    schema = given["components"]["schemas"]["ChatRequest"]
    assert schema["properties"].keys() == names
    assert schema["required"] == ["messages"]


def test_a_key_is_needed_where_one_is_configured() -> None:
    for keys, security in (((), [{}, {"bearer": []}, {"key": []}]), ((ApiKey("k"),), [{"bearer": []}, {"key": []}])):
        client = TestClient(create_app(Settings(models=(ModelSettings("scripted", "scripted"),), api_keys=keys)))
        told = client.get("/openapi.json", headers={"x-api-key": "k"}).json()
        assert told["security"] == security
        assert told["paths"]["/health"]["get"]["security"] == []
        assert "security" not in told["paths"]["/v1/models"]["get"]


class _Thing(msgspec.Struct):
    name: str


async def _nothing(request: Request) -> Response:
    return Response()


def test_a_new_route_needs_one_line() -> None:
    routes = [Route("/things/{id:int}", _nothing, methods=["GET", "DELETE"])]
    docs = {
        "/things/{id}": Doc("One thing", _Thing, errors=(404,), path={"id": "Its number."}),
        "DELETE /things/{id}": Doc("Forget it", media="text/plain", errors=(409,), path={"id": "Its number."}),
    }
    made = document(routes, docs)
    validate(json.loads(json.dumps(made)))
    operations = made["paths"]["/things/{id}"]
    assert set(operations["get"]["responses"]) == set(operations["head"]["responses"]) == {"200", "401", "404"}
    assert set(operations["delete"]["responses"]) == {"200", "401", "409"}
    with pytest.raises(KeyError):
        document([*routes, Route("/undocumented", _nothing)], docs)


def test_server_tells_it_and_protects_it(given: dict[str, Any]) -> None:
    with serving(*SCRIPTED, "--api-key", "secret", until=Server.wait_listening) as server:
        assert server.get("/openapi.json").status_code == 401
        told = server.get("/openapi.json", headers={"x-api-key": "secret"})
        assert told.headers["content-type"] == "application/json"
        open_to_all, *kept = given["security"]
        assert (open_to_all, told.json()) == ({}, {**given, "security": kept})
