"""Bodies that are nearly valid, by the thousand: no answer may be the server's fault, and no worker may be lost."""

from __future__ import annotations

import copy
import http.client
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fuzz_seeds import SEEDS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lib.processes import BENCH, ServerProcess, troubles
from rich.console import Console

Json = dict[str, Any] | list[Any]
Place = tuple[Json, Any]
"""A key or an index, and the container that has it."""

PATIENCE_S = 60
LIMITS = ("--max-concurrency=4", "--context-length=512", "--default-max-tokens=8")
SEES = BENCH.parent / "tests" / "shapes" / "model"
BOUNDARY = "xxxxxxxx"

NUMBERS = st.sampled_from([0, 1, -1, 0.5, 2**31, 2**63, 2**64, 10**40, 1e308, 1e-320, math.nan, math.inf])
STRINGS = st.sampled_from(
    [
        *("", " ", "\0", "\ud800", "é" * 9, "x" * 5000, "1", "auto", "tiny", "<|im_end|>", "<tool_call>", "{{ 1/0 }}"),
        *("../../etc/passwd", "data:image/png;base64,AAAA", "http://[::1", "(a+)+$", '{"a": ['),
    ]
)
ODD = st.sampled_from(
    [
        *(None, True, [], {}, [[]], [None], {"": None}, {"type": None}, {"type": "text"}, {"type": "function"}),
        *({"$ref": "#"}, {"pattern": "(a+)+$"}, {"type": "object", "properties": {"a": {"$ref": "#"}}}),
        *([0] * 300, ["x"] * 300),
    ]
)
NASTY = NUMBERS | STRINGS | ODD
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fields_of(document: Mapping[str, Any], path: str) -> list[str]:
    """The names that the body of a path may have at its top, as the OpenAPI document knows them."""
    content = document["paths"].get(path, {}).get("post", {}).get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return sorted(document["components"]["schemas"].get(reference.rpartition("/")[2], {}).get("properties", {}))


@st.composite
def requests(draw: st.DrawFn, document: Mapping[str, Any]) -> tuple[str, bytes, str]:
    """A path, a body and its content type."""
    path, valid = draw(st.sampled_from(SEEDS))
    body = copy.deepcopy(valid)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        mutate(draw, body, fields_of(document, path))
    if any(isinstance(value, tuple) for value in body.values()):
        return path, damaged(draw, form(body)), f"multipart/form-data; boundary={BOUNDARY}"
    return path, damaged(draw, json.dumps(body).encode()), "application/json"


def mutate(draw: st.DrawFn, body: dict[str, Any], fields: list[str]) -> None:
    """Change one place of a body."""
    inside = [(container, key) for container, key in places(body) if key != "model"]
    how = draw(st.sampled_from(["bend", "bend", "bend", "drop", "add", "replace", "repeat", "exchange"]))
    if how == "add" or not inside:
        body[draw(st.sampled_from([*fields, "x"]))] = copy.deepcopy(draw(NASTY | ANY))
        return
    container, key = draw(st.sampled_from(inside))
    match how:
        case "replace":
            container[key] = copy.deepcopy(draw(NASTY | ANY))
        case "bend":
            container[key] = bent(draw, container[key])
        case "drop":
            del container[key]
        case "repeat":
            container[key] = [copy.deepcopy(container[key])] * draw(st.sampled_from([2, 50]))
        case "exchange":
            other, elsewhere = draw(st.sampled_from(inside))
            container[key] = copy.deepcopy(other[elsewhere])


def bent(draw: st.DrawFn, value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return draw(NUMBERS)
        case str():
            return draw(st.sampled_from(["", value[: len(value) // 2], value * 2, value.upper()]) | STRINGS)
        case list():
            return [*value[1:], *value[:1]] * draw(st.sampled_from([0, 1, 2]))
        case dict():
            return dict(list(value.items())[: len(value) // 2])
    return draw(ANY)


def places(value: Any) -> Iterator[Place]:
    """All places of a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Mostly as it is; else cut short, or with a few bytes changed."""
    match draw(st.sampled_from(["whole"] * 14 + ["cut", "changed"])):
        case "cut":
            return body[: draw(st.integers(0, len(body)))]
        case "changed":
            place = draw(st.integers(0, len(body)))
            return body[:place] + draw(st.binary(max_size=4)) + body[place + draw(st.integers(0, 2)) :]
    return body


def form(body: Mapping[str, Any]) -> bytes:
    """A form with a file."""
    parts = []
    for name, value in body.items():
        file = f'; filename="{value[0]}"' if isinstance(value, tuple) else ""
        content = str(value[1] if isinstance(value, tuple) else value).encode(errors="surrogatepass")
        parts.append(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode(errors="replace")
            + content
        )
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def fault_of(status: int, content_type: str, body: bytes) -> str | None:
    """What is wrong with an answer, if anything is."""
    if status >= 500:
        return f"{status} {body[:300]!r}"
    if content_type.startswith("text/event-stream"):
        wrong = [line for line in body.splitlines() if b'"server_error"' in line or b'"api_error"' in line]
        return f"{wrong[0][:300]!r}" if wrong else None
    if status >= 400 and not json.loads(body)["error"]["message"]:
        return f"{status} without words"
    return None


class Client:
    """One connection to a server; what was wrong stands in `found`."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE_S)
        self.statuses: Counter[str] = Counter()
        self.found: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, str, bytes]:
        """Status, content type and body of an answer."""
        self._connection.request(method, path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()

    def workers(self) -> dict[str, list[int]]:
        """Each model's worker processes."""
        loaded = json.loads(self.ask("GET", "/v1/manager/status")[2])["loaded_models"]
        return {name: one["pids"] for name, one in loaded.items()}

    def attempt(self, path: str, body: bytes, kind: str) -> None:
        """Send a body, and judge what comes back."""
        try:
            status, content_type, answer = self.ask("PUT" if "/settings/" in path else "POST", path, body, kind)
            fault = fault_of(status, content_type, answer)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            self._connection.close()
            status, fault = 0, f"{type(error).__name__}: {error}"
        self.statuses[str(status)] += 1
        if fault is not None:
            self.found.setdefault(f"{path} {fault[:80]}", f"{path}: {fault} {body[:2000]!r}")


def fuzz(model: Path, scratch: Path, count: int, number: int, console: Console) -> tuple[dict[str, Any], bool]:
    """Figures of `count` requests made with the seed `number`, and whether nothing was found."""
    config = scratch / "fuzz.toml"
    paths = {
        "tiny": f'path = "{model}"',
        "sees": f'path = "{SEES}"',
        "scripted": 'path = "scripted"\ntype = "scripted"',
    }
    config.write_text("\n".join(f"[models.{name}]\n{path}" for name, path in paths.items()))
    kept = [f"--{name}-dir={scratch / name}" for name in ("data", "cache")]
    launch = [sys.executable, "-m", "mlx_server.app", "launch", f"--config={config}", *kept, *LIMITS]
    with ServerProcess(launch, scratch / "fuzz.log") as server:
        client = Client(server)
        document = json.loads(client.ask("GET", "/openapi.json")[2])
        conversation = json.loads(client.ask("POST", "/v1/conversations", b"{}")[2])["id"]
        before = client.workers()

        @seed(number)
        @settings(
            max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck
        )
        @given(requests(document))
        def try_one(request: tuple[str, bytes, str]) -> None:
            path, body, kind = request
            client.attempt(path.replace("CONVERSATION", conversation), body, kind)

        try_one()
        kept_workers = client.workers() == before
    figures = {
        "bodies": count,
        "seed": number,
        "statuses": dict(sorted(client.statuses.items())),
        "found": list(client.found.values()),
        "workers_kept": kept_workers,
        "troubles": troubles(server.log),
    }
    console.print(figures, markup=False)
    return figures, kept_workers and not client.found and not figures["troubles"]
