"""The service: makes spans of finished failovers, and sends them in a thread."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from random import uniform
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.finished_failovers import MAX_RECORDS, FinishedFailovers
from txsentinel.extensions.leadership import Leadership
from txsentinel.extensions.otel.settings import OtelSettings, read_settings
from txsentinel.extensions.otel.spans import failover_spans

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.history import FailoverRecord

EXPORT_TIMEOUT: Final = 5
"""Seconds that one attempt may take, with the repetitions that the exporter makes itself."""

MIN_DELAY: Final = 1.0
MAX_DELAY: Final = 300.0
"""Seconds between two attempts: they double, and are shortened at random by up to a half."""

MAX_WAITING: Final = 200
"""How many failovers wait for a collector; of more the oldest is discarded."""

EXPORTER_LOG: Final = "opentelemetry"


class TraceService(Service):
    """
    Sends each failover once, some time after its end.

    :param make_exporter: called when the service starts.
    :param random: returns a random number between two.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: Any,
        view: ISentinelView,
        settings: OtelSettings,
        make_exporter: Callable[[OtelSettings], SpanExporter],
        random: Callable[[float, float], float] = uniform,
    ) -> None:
        self._reactor = reactor
        self._view = view
        self._settings = settings
        self._make_exporter = make_exporter
        self._random = random
        self._leadership = Leadership(view)
        self._failovers = FinishedFailovers(reactor, view, self._finished)
        self._exporter: SpanExporter | None = None
        self._delayed: dict[IDelayedCall, FailoverRecord] = {}
        """The calls that will queue failovers."""

        self._waiting: deque[list[ReadableSpan]] = deque()
        self._running: Deferred[Any] | None = None
        self._retry: IDelayedCall | None = None
        self._failures = 0
        self.exported = 0
        self.dropped = 0

    def startService(self) -> None:
        """Begin; the exporter is made only now, after ``twistd`` has forked."""
        super().startService()  # type: ignore[no-untyped-call]
        self._exporter = self._make_exporter(self._settings)
        self._failovers.start()

    def stopService(self) -> Deferred[Any]:
        """Stop, after one attempt to send what waits, unless the latest one has failed."""
        self._failovers.stop()
        super().stopService()  # type: ignore[no-untyped-call]
        for call, record in list(self._delayed.items()):
            call.cancel()
            self._queue(record)
        self._delayed.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        running = self._running or succeed(None)
        return running.addCallback(lambda _: self._last_attempt())

    def _last_attempt(self) -> Any:
        if self._waiting and not self._failures:
            self._export()
        running = self._running or succeed(None)
        return running.addCallback(lambda _: self._close())

    def _close(self) -> None:
        if self._waiting:
            self._log.warn("OpenTelemetry: {count} failovers were not sent", count=len(self._waiting))
        if self._exporter is not None:
            self._exporter.shutdown()
            self._exporter = None

    def _finished(self, record: FailoverRecord) -> None:
        if not self._settings.wants(record.master):
            return

        def queue() -> None:
            del self._delayed[call]
            self._queue(record)
            self._export()

        call = self._reactor.callLater(self._settings.delay, queue)
        self._delayed[call] = record

    def _queue(self, record: FailoverRecord) -> None:
        """Queue the spans of the present state of a record."""
        present = self._view.history(record.master, MAX_RECORDS)
        record = next((each for each in present if each.record_id == record.record_id), record)
        identity = self._view.identity()
        resource = Resource.create(
            {
                "service.name": "txsentinel",
                "service.version": identity.version,
                "service.instance.id": identity.sentinel_id,
            }
        )
        root = self._leadership.reports(record)
        self._waiting.append(failover_spans(record, resource, identity.version, with_root=root))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def _export(self) -> None:
        """Send what waits, unless that is in progress, or is to be tried again later."""
        exporter = self._exporter
        if self._running is not None or self._retry is not None or not self._waiting or exporter is None:
            return
        batches = list(self._waiting)
        spans = [span for batch in batches for span in batch]
        running: Deferred[Any] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), exporter.export, spans)
        self._running = running
        running.addCallbacks(self._exported, self._raised, callbackArgs=(batches,))

    def _exported(self, result: SpanExportResult, batches: Sequence[list[ReadableSpan]]) -> None:
        self._running = None
        if result is not SpanExportResult.SUCCESS:
            self._failed("the collector did not accept the spans")
            return
        if self._failures:
            self._log.info("OpenTelemetry: traces are sent again")
        self._failures = 0
        self.exported += len(batches)
        for batch in batches:
            if self._waiting and self._waiting[0] is batch:
                self._waiting.popleft()
        if self.running:
            self._export()

    def _raised(self, failure: Failure) -> None:
        self._running = None
        self._failed(failure.getErrorMessage())

    def _failed(self, reason: str) -> None:
        if not self._failures:
            self._log.warn("OpenTelemetry: traces cannot be sent: {reason}; it is tried again", reason=reason)
        longest = min(MAX_DELAY, MIN_DELAY * 2 ** min(self._failures, 16))
        self._failures += 1
        if self.running:
            self._retry = self._reactor.callLater(self._random(longest / 2, longest), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._export()


def otlp_exporter(settings: OtelSettings) -> SpanExporter:
    """
    Return the exporter over HTTP. What it logs of its own is left out: the service logs failures, once.

    A setting takes precedence over the variables ``OTEL_EXPORTER_OTLP_…``.
    """
    logging.getLogger(EXPORTER_LOG).setLevel(logging.CRITICAL)
    headers = dict(settings.headers)
    return OTLPSpanExporter(
        endpoint=settings.endpoint or None, headers=headers if headers else None, timeout=EXPORT_TIMEOUT
    )


def make_service(context: ExtensionContext) -> TraceService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong.
    """
    return TraceService(context.reactor, context.view, read_settings(context.argument, context.settings), otlp_exporter)
