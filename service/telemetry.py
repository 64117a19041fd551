"""Traces to an OpenTelemetry collector: one span for each request, joined to the caller's trace.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or the traces' own variable) is set and the extra `otel` is installed; all
else is configured by OpenTelemetry's own `OTEL_*` variables.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.route import route_of

log = logging.getLogger("bcd.api")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def provider(process: str) -> Any | None:
    """A tracer provider that exports in the background, None where traces are off. Shut it down at the end."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra `otel` is not installed: no traces")
        return None
    made = TracerProvider(resource=Resource.create({"service.name": f"bcd-{process}"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


class Traces:
    """A span for each request, named by its route."""

    def __init__(self, app: ASGIApp, provider: Any):
        self.app, self._tracer = app, provider.get_tracer("bcd")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            scope["method"], context=propagate.extract(carrier), kind=SpanKind.SERVER
        ) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = route_of(scope)
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.request.method", scope["method"])
                    span.set_attribute("http.response.status_code", message["status"])
                    span.set_attribute("bcd.request_id", str((scope.get("state") or {}).get("request_id", "-")))
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await self.app(scope, receive, noted)
