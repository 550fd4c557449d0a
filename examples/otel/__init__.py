"""
A collector of OpenTelemetry for the example: it parses what arrives over OTLP/HTTP, and keeps the spans.

No collector can be installed from Debian or PyPI, so this stands in for one. It uses the message types of
``opentelemetry-proto``, as a real one does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from examples.failover import Arrivals, Integration, Missing
from examples.http_server import HttpServer, ReceivedRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with the Sentinel that has sent it. Times are seconds since 1970."""

    sentinel: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: float
    end: float
    attributes: dict[str, Any]
    events: tuple[str, ...]


class TraceCollector(Integration):
    """Accepts ``POST /v1/traces``; the first request is answered with 503."""

    title = "OpenTelemetry"

    def start(self, directory: Path) -> None:
        """Start the collector."""
        try:
            import opentelemetry.exporter.otlp.proto.http
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
        except ImportError:
            raise Missing("there is no exporter: pip install 'txsentinel[otel]'") from None
        self.messages: Any = trace_service_pb2
        self.exporter = opentelemetry.exporter.otlp.proto.http.__name__
        self.spans = Arrivals()
        self.refused = 0
        self.server = HttpServer(self.answer)

    def extension_lines(self, sentinel: int) -> list[str]:
        """One collector; the trace is sent a second after the end of the failover."""
        return [f"otel endpoint {self.server.url}", "otel delay 1s"]

    def answer(self, request: ReceivedRequest) -> tuple[int, bytes]:
        """Parse a request."""
        if request.path != "/v1/traces" or request.headers["content-type"] != "application/x-protobuf":
            return 404, b""
        if not self.refused:
            self.refused += 1
            return 503, b""
        message = self.messages.ExportTraceServiceRequest()
        message.ParseFromString(request.body)
        for resource in message.resource_spans:
            names = values_of(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.add(received(span, str(names["service.instance.id"])))
        return 200, self.messages.ExportTraceServiceResponse().SerializeToString()

    def received(self) -> list[ReceivedSpan]:
        """Return all spans so far."""
        return [each for each in self.spans.values if is_span(each)]

    def wait_known(self, address: str) -> float:
        """Wait for the root, and until three Sentinels have sent the switch."""
        self.spans.wait_until(lambda spans: any(is_root(each, address) for each in spans), "the root of the trace")
        self.spans.wait_until(lambda spans: len(switched(spans)) == 3, "the spans of three Sentinels")
        return time.monotonic()

    def show(self) -> list[str]:
        """Return the trace as a tree."""
        spans = self.received()
        known = {each.span_id for each in spans}
        roots = [each for each in spans if each.parent_id not in known]
        began = min(each.start for each in spans)
        lines = [f"trace {trace}" for trace in sorted({each.trace_id for each in spans})]

        def add(span: ReceivedSpan, depth: int) -> None:
            start, took = (span.start - began) * 1000, (span.end - span.start) * 1000
            votes = f", {len(span.events)} votes" if span.events else ""
            lines.append(f"{'  ' * depth}{span.name} at {start:.0f} ms, {took:.0f} ms{votes}")
            for child in spans:
                if child.parent_id == span.span_id:
                    add(child, depth + 1)

        for root in roots:
            add(root, 1)
        return lines

    def close(self) -> None:
        """Stop the collector."""
        if hasattr(self, "server"):
            self.server.close()


def values_of(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def received(span: Any, sentinel: str) -> ReceivedSpan:
    """Return a span as it is kept."""
    return ReceivedSpan(
        sentinel=sentinel,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes=values_of(span.attributes),
        events=tuple(each.name for each in span.events),
    )


def is_root(span: object, address: str) -> bool:
    """Whether a span is the root of the failover to an address."""
    return is_span(span) and not span.parent_id and span.attributes.get("txsentinel.to") == address


def switched(spans: list[object]) -> set[str]:
    """Return the Sentinels that have sent the switch as they saw it."""
    outcomes = [(each.sentinel, each.attributes.get("txsentinel.outcome")) for each in spans if is_span(each)]
    return {sentinel for sentinel, outcome in outcomes if outcome == "switched"}


def is_span(value: object) -> TypeGuard[ReceivedSpan]:
    """Whether something that has arrived is a span."""
    return isinstance(value, ReceivedSpan)
