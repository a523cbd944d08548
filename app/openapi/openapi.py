"""The OpenAPI document (3.1): generated from the routes, their documentation and the msgspec types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mlx_server.app import __version__
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.http.keys import PRIORITY_HEADER
from mlx_server.app.http.multipart import MULTIPART
from mlx_server.app.http.prompt_cache import HEADER as PROMPT_CACHE
from mlx_server.app.http.responder import DROPPED
from mlx_server.app.http.services import services
from mlx_server.app.middleware.api_key import OPEN_FOLDERS, OPEN_PATHS
from mlx_server.app.openapi.descriptions import DESCRIPTIONS
from mlx_server.app.openapi.documentation import DOCS
from mlx_server.app.openapi.examples import EXAMPLES, model_for, naming
from mlx_server.app.openapi.route_doc import Doc
from mlx_server.app.openapi.tags import TAGS, tag_of
from mlx_server.app.routes.resumable import JOINED

SCHEMAS = "#/components/schemas/{name}"
JSON = "application/json"
EVENTS = "text/event-stream"
ALWAYS = (401,)
NAMES_A_MODEL = re.compile("{name}|{model_id}")

MEANINGS = {
    400: "The request can't be served as it is; `param` names the field.",
    401: "A key is configured, and this is not it.",
    409: "The model or the request is in no state for that, or the request was cancelled.",
    413: "The body is larger than the server's limit.",
    403: "Only the operator may do that, or the hub gives no access to that model.",
    429: "The queue is full, or a limit reached: come again after `Retry-After` seconds.",
    500: "The server failed on this request.",
    502: "The worker died, and the request could not be replayed.",
    503: "The server is stopping, its model was given up, or the hub can't be reached.",
    504: "The request took longer than the server's limit.",
}
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"description": "The client's own, if it sent a plain one.", "schema": {"type": "string"}},
    "X-Ignored-Fields": {"description": "The fields of the body that changed nothing.", "schema": {"type": "string"}},
    DROPPED: {
        "description": "How many old messages were left out.",
        "schema": {"type": "integer", "minimum": 1},
    },
    PROMPT_CACHE: {"description": "The prompt can't be kept for the next turn.", "schema": {"type": "string"}},
    JOINED: {
        "description": "`true`: the answer was begun for an earlier request.",
        "schema": {"const": "true"},
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
    "X-Should-Retry": {
        "description": "`false` where the same request would fail again, or cost its work again: SDKs obey it.",
        "schema": {"const": "false"},
    },
}
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


ABOUT = (
    "MLX models over OpenAI's and Anthropic's APIs. Examples name a model that is served here, if one is of the right"
    " kind. An id in an example stands for that of something that has to be made first."
)
PRIORITY = {PRIORITY_HEADER: "`high`, `normal` (where nothing is said), `low` or `idle`: who gets free rows first."}
"""What any request may say that waits in a queue."""


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`, made when it is first asked for, and anew for other models or once keys are needed."""
    state, found = request.app.state, services(request)
    served = served_by_kind(found.fleet.deployments)
    needs_key = bool(found.settings.api_keys)
    kept_for, content = getattr(state, "openapi", (None, b""))
    if not content or kept_for != (served, needs_key):
        made = document(
            request.app.routes,
            needs_key=needs_key,
            always=(*ALWAYS, 429) if found.settings.rate_limit else ALWAYS,
            served=served,
        )
        content = msgspec.json.encode(made)
        state.openapi = (served, needs_key), content
    return Response(content, media_type=JSON)


def served_by_kind(deployments: Iterable[Deployment]) -> dict[str, str]:
    """The first model's name of each type; of those known to hear or to speak, by that instead of their type."""
    served: dict[str, str] = {}
    for one in deployments:
        abilities = {} if one.facts is None else {"hears": one.facts.transcribes, "speaks": one.facts.speaks}
        for kind in [able for able, is_so in abilities.items() if is_so] or [one.type]:
            served.setdefault(kind, one.name)
    return served


def document(
    routes: Sequence[BaseRoute],
    docs: Mapping[str, Doc] = DOCS,
    *,
    needs_key: bool = False,
    always: tuple[int, ...] = ALWAYS,
    served: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole document; `always` are refusals that any route may answer with, `served` examples' models by kind.

    Raises KeyError for a route that is not documented.
    """
    items = {path_of(route): docs_of(route, docs) for route in routes if isinstance(route, Route)}
    types = {type_: None for item in items.values() for doc in item.values() for type_ in types_of(doc)}
    schemas, components = msgspec.json.schema_components(types, ref_template=SCHEMAS)
    writer = Writer(dict(zip(types, schemas, strict=True)), always, served or {})
    required: list[dict[str, list[str]]] = [{name: []} for name in KEYS]
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlx-server", "version": __version__, "description": ABOUT},
        "paths": {
            path: {method.lower(): writer.operation(method, path, doc) for method, doc in item.items()}
            for path, item in sorted(items.items(), key=lambda entry: TAGS.index(tag_of(entry[0])))
        },
        "tags": [{"name": tag.name, "description": tag.description} for tag in TAGS],
        "components": {"schemas": components, "headers": HEADERS, "securitySchemes": KEYS},
        "security": required if needs_key else [{}, *required],
    }


def path_of(route: Route) -> str:
    """A route's path without the kinds of its parameters, which OpenAPI does not know."""
    return re.sub(r"{(\w+):\w+}", r"{\1}", route.path)


def docs_of(route: Route, docs: Mapping[str, Doc]) -> dict[str, Doc]:
    """The documentation of each of a route's methods: its own, else the path's. Raises KeyError."""
    path = path_of(route)
    return {method: docs.get(f"{method} {path}") or docs[path] for method in sorted(route.methods or ())}


def types_of(doc: Doc) -> Iterable[Any]:
    """All types that a documentation names."""
    named = (doc.request, doc.form, doc.answer, doc.event, doc.error, *doc.also.values())
    return [type_ for type_ in named if type_ is not None]


class Writer:
    """Writes operations, with a schema for each type."""

    def __init__(
        self, schemas: Mapping[Any, dict[str, Any]], always: tuple[int, ...], served: Mapping[str, str]
    ) -> None:
        self._schemas = schemas
        self._always = always
        self._served = served

    def operation(self, method: str, path: str, doc: Doc) -> dict[str, Any]:
        """One method of a path."""
        parameters = [parameter(name, "path", doc.path[name]) for name in re.findall(r"{(\w+)}", path)]
        parameters += [parameter(name, "query", text) for name, text in doc.query.items()]
        model = model_for(path, self._served)
        if method == "POST" and model is not None and NAMES_A_MODEL.search(path):
            parameters[0]["example"] = model
        headers = {**doc.headers, **(PRIORITY if 429 in doc.errors else {})}
        parameters += [parameter(name, "header", text) for name, text in headers.items()]
        content = self._form(doc) if doc.form is not None else self._json(doc.request)
        if method == "POST" and path in EXAMPLES:
            for media in content.values():
                media["example"] = EXAMPLES[path] if model is None else naming(model, EXAMPLES[path])
        body = {"required": True, "content": content}
        return {
            "tags": [tag_of(path).name],
            "operationId": "_".join([method.lower(), *re.findall(r"\w+", path)]),
            "summary": doc.summary,
            **({"description": DESCRIPTIONS[path]} if method == "POST" and path in DESCRIPTIONS else {}),
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": body} if content else {}),
            "responses": self._responses(doc, head=method == "HEAD"),
            **({"security": []} if path in OPEN_PATHS or path.startswith(OPEN_FOLDERS) else {}),
        }

    def _responses(self, doc: Doc, *, head: bool) -> dict[str, Any]:
        contents = {200: self._content(doc)}
        contents.update({status: self._json(type_) for status, type_ in doc.also.items()})
        contents.update({status: self._json(doc.error) for status in (*self._always, *doc.errors)})
        return {
            str(status): {
                "description": MEANINGS.get(status, HTTPStatus(status).phrase),
                "headers": headers_of(status, doc),
                **({} if head else {"content": content}),
            }
            for status, content in sorted(contents.items())
        }

    def _form(self, doc: Doc) -> dict[str, Any]:
        """A form: its fields, and files beside them."""
        files = {
            name: {"type": "string", "format": "binary", "description": text}
            for name, text in {**doc.files, **doc.optional_files}.items()
        }
        beside = {"type": "object", "properties": files, "required": list(doc.files)}
        return {MULTIPART: {"schema": {"allOf": [self._schemas[doc.form], beside]}}}

    def _content(self, doc: Doc) -> dict[str, Any]:
        if doc.answer is None and doc.event is not None:
            return {EVENTS: {"schema": self._event(doc)}}
        if doc.answer is None:
            return {doc.media: {"schema": {"type": "string"}}}
        if doc.event is None:
            return self._json(doc.answer)
        return {**self._json(doc.answer), EVENTS: {"schema": self._event(doc)}}

    def _event(self, doc: Doc) -> dict[str, Any]:
        """One event of a stream: until 3.2 the convention is that the schema of a stream is that of its events."""
        kinds = [self._schemas[doc.event], self._schemas[doc.error]]
        data: list[dict[str, Any]] = [
            {"type": "string", "contentMediaType": JSON, "contentSchema": {"anyOf": kinds}},
            *({"const": mark} for mark in doc.marks),
        ]
        return {
            "type": "object",
            "description": "An event, if the request has `stream`.",
            "properties": {"event": {"type": "string"}, "data": {"anyOf": data}},
            "required": ["data"],
        }

    def _json(self, type_: Any) -> dict[str, Any]:
        return {JSON: {"schema": self._schemas[type_]}} if type_ is not None else {}


def parameter(name: str, where: str, text: str) -> dict[str, Any]:
    """A parameter that is a string."""
    return {"name": name, "in": where, "required": where == "path", "description": text, "schema": {"type": "string"}}


def headers_of(status: int, doc: Doc) -> dict[str, Any]:
    """The headers of an answer beside those of HTTP."""
    names = ["X-Request-Id"]
    if status == 200 and (doc.request is not None or doc.form is not None):
        names += ["X-Ignored-Fields", *doc.tells]
    if status in (429, 504):
        names.append("Retry-After")
    if status in (409, 502, 504):
        names.append("X-Should-Retry")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
