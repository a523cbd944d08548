"""OpenTelemetry: a span for each request, and below it one for each stage of its work, never one for each chunk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_server.app import __version__
from mlx_server.app.config.settings import Settings
from mlx_server.app.http.access_record import AccessRecord, record_of
from mlx_server.app.middleware.request_id import QUIET
from mlx_server.queue.ticket import Ticket
from mlx_server.workers.extras import install_line

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE = "mlx-server"
TRACES = "/v1/traces"
"""Below an endpoint, as OTLP over HTTP has it."""

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""OpenTelemetry's words for what generative models do."""

NS = 1_000_000_000

log = logging.getLogger(__name__)


class TracingMissing(ValueError):  # noqa: N818 - named for the fact
    """Raised where traces are wanted and OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(f"--otlp-endpoint needs OpenTelemetry: {install_line('otel')}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a request's time, in seconds of the event loop's clock."""

    name: str
    begin_s: float
    end_s: float


def stages(ticket: Ticket, end_s: float) -> Iterator[Stage]:
    """What a request's time went to until `end_s`."""
    started_s, first_s = ticket.started_at, ticket.first_text_at
    yield Stage("queue", ticket.submitted_at, end_s if started_s is None else started_s)
    if started_s is not None:
        yield Stage("prefill" if ticket.writes else "compute", started_s, end_s if first_s is None else first_s)
    if first_s is not None:
        yield Stage("decode", first_s, ticket.last_event_at)


def provider_for(endpoint: str) -> TracerProvider:
    """What sends spans to a collector, by OTLP over HTTP, from a thread of its own. Raises TracingMissing.

    OpenTelemetry's own variables of the environment say the rest (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, …).
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingMissing from None
    resource = Resource({"service.name": SERVICE, "service.version": __version__})
    resource = resource.merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + TRACES)))
    return provider


def provider_of(settings: Settings) -> TracerProvider | None:
    """The same for a server, if traces are wanted. Raises TracingMissing, unless they are wanted of all programs."""
    if settings.otlp_endpoint is None:
        return None
    try:
        return provider_for(settings.otlp_endpoint)
    except TracingMissing as error:
        if not settings.otlp_of_all:
            raise
        log.warning("no traces are sent, though OTEL_EXPORTER_OTLP_ENDPOINT names a collector: %s", error)
        return None


class TracingMiddleware:
    """Goes on with the trace that a request's `traceparent` names, else begins one. What is polled leaves none."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer(SERVICE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time a request, and pass it on."""
        from opentelemetry.trace import SpanKind

        if scope["type"] != "http" or scope["path"].startswith(QUIET):
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began_ns = time.time_ns()
        parent = self._propagator.extract(dict(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # Only now is it known by what route and for which model: paths themselves may hold anything.
            record, route = record_of(scope), getattr(scope.get("route"), "path", "")
            span = self._tracer.start_span(
                f"{scope['method']} {route}".strip(), parent, SpanKind.SERVER, start_time=began_ns
            )
            span.set_attributes({"http.request.method": scope["method"], "http.route": route})
            self._finish(span, scope, record, status)

    def _finish(self, span: Span, scope: Scope, record: AccessRecord, status: int) -> None:
        from opentelemetry.trace import StatusCode, set_span_in_context

        ended_ns = time.time_ns()
        if record.model is not None:
            span.set_attribute("gen_ai.request.model", record.model)
            span.set_attribute("gen_ai.operation.name", OPERATIONS.get(scope["path"], "generate_content"))
        if (final := record.status or status) == 0:
            span.set_attribute("error.type", "client_left")
        else:
            span.set_attribute("http.response.status_code", final)
        if final >= 500:
            span.set_status(StatusCode.ERROR)
        if record.reason:
            span.set_attribute("error.type", record.reason)
        if (ticket := record.ticket) is not None:
            span.set_attribute("gen_ai.usage.input_tokens", ticket.tokens_read)
            span.set_attribute("gen_ai.usage.output_tokens", ticket.tokens_written)
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", ticket.cached_tokens)
            now_s = asyncio.get_running_loop().time()
            for stage in stages(ticket, now_s):
                begin_ns, end_ns = (ended_ns - round((now_s - at) * NS) for at in (stage.begin_s, stage.end_s))
                child = self._tracer.start_span(stage.name, set_span_in_context(span), start_time=begin_ns)
                child.end(end_ns)
        span.end(ended_ns)
