"""Traces: a collector gets a span of each request and of its stages, in the trace that the client named."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.running.servers import SCRIPTED, Server, chat_body

from mlx_server.app.cli.cli import app
from mlx_server.app.cli.launch_settings import otlp_of_all
from mlx_server.app.config.settings import Settings
from mlx_server.app.middleware.tracing import TracingMissing, provider_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """What an OpenTelemetry collector would be sent."""

    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.resources: set[str] = set()
        self.spans: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.resources.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_request_is_a_span_with_its_stages_in_the_clients_trace(
    launch: Callable[..., Server], collector: Collector
) -> None:
    server = launch(*SCRIPTED, "--otlp-endpoint", collector.url)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    script = {"tokens": 4, "interval_s": 0.05}
    assert server.post("/v1/chat/completions", chat_body(script), headers=headers).status_code == 200
    assert server.post("/v1/chat/completions", {"messages": "none"}).status_code == 400
    assert server.get("/v1/responses/the-clients-text").status_code == 404
    server.close()  # what is not sent yet is sent then
    assert collector.resources == {"mlx-server"}
    by_name = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    assert by_name.keys() == {"POST /v1/chat/completions", "queue", "prefill", "decode"}
    request = by_name["POST /v1/chat/completions"]
    assert request.parent_span_id.hex() == PARENT
    assert (
        attributes(request).items()
        >= {
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "scripted",
            "gen_ai.usage.output_tokens": 4,
        }.items()
    )
    stages = [by_name[name] for name in ("queue", "prefill", "decode")]
    assert all(stage.parent_span_id == request.span_id for stage in stages)
    times = [time for stage in stages for time in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
    assert times == sorted(times)
    assert request.start_time_unix_nano <= times[0]
    assert times[-1] <= request.end_time_unix_nano
    assert stages[2].end_time_unix_nano - stages[2].start_time_unix_nano >= 0.1e9
    others = [span for span in collector.spans if span.trace_id.hex() != TRACE]
    refused = [attributes(span) for span in others if span.name == "POST /v1/chat/completions"]
    assert [(one["http.response.status_code"], one["error.type"]) for one in refused] == [
        (400, "invalid_request_error param=messages")
    ]
    assert not [span for span in collector.spans if "clients-text" in str(span) or "/health" in str(span)]


def test_what_is_missing_ends_no_server_that_nobody_gave_the_flag(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = Settings(otlp_endpoint="http://127.0.0.1:9")
    with pytest.raises(TracingMissing, match="--otlp-endpoint needs OpenTelemetry: pip install"):
        provider_of(settings)
    assert provider_of(replace(settings, otlp_of_all=True)) is None
    assert "no traces are sent, though OTEL_EXPORTER_OTLP_ENDPOINT names a collector" in caplog.text


@pytest.mark.parametrize(
    ("variables", "flags", "of_all"),
    [
        (["OTEL_EXPORTER_OTLP_ENDPOINT"], [], True),
        (["OTEL_EXPORTER_OTLP_ENDPOINT", "MLX_SERVER_OTLP_ENDPOINT"], [], False),
        (["OTEL_EXPORTER_OTLP_ENDPOINT"], ["--otlp-endpoint", "http://a"], False),
        ([], [], False),
    ],
)
def test_variable_of_all_programs_is_told_from_the_servers_own(
    monkeypatch: pytest.MonkeyPatch, variables: list[str], flags: list[str], of_all: bool
) -> None:
    for variable in variables:
        monkeypatch.setenv(variable, "http://b")
    launch = typer.main.get_command(app).commands["launch"]  # type: ignore[attr-defined]
    assert otlp_of_all(launch.make_context("mlx-server launch", flags)) is of_all


def test_a_collector_that_is_away_costs_no_request(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--otlp-endpoint", "http://127.0.0.1:9")
    assert server.chat("hi").status_code == 200
