"""Tests of the extension ``otel``: the spans of a failover, settings, and the sending of traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import OWN_ID, PEER_IDS, FakeView, failover_record, healthy_master
from tests.extensions.outward.harness import ImmediateReactor
from tests.log_events import observe_log
from txsentinel.extensions.finished_failovers import INTERVAL
from txsentinel.extensions.otel.service import MAX_WAITING, TraceService
from txsentinel.extensions.otel.settings import OtelSettings, parse_headers, read_settings
from txsentinel.extensions.otel.spans import failover_spans, span_id
from txsentinel.model.extension_settings import ExtensionSetting, SettingError
from txsentinel.model.history import FailoverRecord, ObserverRole, Outcome, trace_id


def spans_of(record: FailoverRecord, with_root: bool = True) -> list[ReadableSpan]:
    """Return the spans of a record."""
    return failover_spans(record, Resource({}), "0.1.0", with_root=with_root)


def as_follower(record: FailoverRecord, observer: str) -> FailoverRecord:
    """Return the record of another Sentinel."""
    return replace(record, observer=observer, observer_role=ObserverRole.FOLLOWER, record_id=f"follower-{observer}")


class SpanTests(SynchronousTestCase):
    """The spans of a record."""

    def test_tree(self) -> None:
        """The root has the span of the Sentinel, which has one span for each phase after the first."""
        root, own, *phases = spans_of(failover_record())
        self.assertEqual([each.name for each in phases], ["odown", "elected", "switched"])
        self.assertIsNone(root.parent)
        assert own.parent is not None and root.context is not None and own.context is not None
        self.assertEqual(own.parent.span_id, root.context.span_id)
        self.assertEqual({each.parent and each.parent.span_id for each in phases}, {own.context.span_id})

    def test_times(self) -> None:
        """A phase lasts from the one before; the root from the first to the last."""
        root, _, *phases = spans_of(failover_record())
        took = [(each.end_time or 0) - (each.start_time or 0) for each in phases]
        self.assertEqual(took, [500_000_000, 500_000_000, 1_000_000_000])
        self.assertEqual((root.start_time, root.end_time), (phases[0].start_time, phases[-1].end_time))

    def test_clock_that_steps_back(self) -> None:
        """A phase never ends before it begins."""
        record = failover_record()
        phases = (*record.phases, replace(record.phases[0], phase="clients_gone"))
        self.assertEqual(
            [
                each
                for each in spans_of(replace(record, phases=phases))
                if (each.end_time or 0) < (each.start_time or 0)
            ],
            [],
        )

    def test_one_trace(self) -> None:
        """Leader and followers have one trace ID and one root, and no other span ID in common."""
        record = failover_record()
        leader = spans_of(record)
        follower = spans_of(as_follower(record, PEER_IDS[0]), with_root=False)
        contexts = [each.context for each in leader + follower if each.context is not None]
        self.assertEqual({each.trace_id for each in contexts}, {int(trace_id("mymaster", 7), 16)})
        self.assertEqual(len({each.span_id for each in contexts}), len(contexts))
        assert follower[0].parent is not None
        self.assertEqual(follower[0].parent.span_id, span_id("mymaster", 7))

    def test_attributes(self) -> None:
        """Root and Sentinel have the attributes of the failover; what is not known is left out."""
        root, own, phase, *_ = spans_of(replace(failover_record(), clients_closed=None))
        attributes = dict(root.attributes or {})
        self.assertEqual(attributes, dict(own.attributes or {}))
        self.assertEqual((attributes["txsentinel.lost_bytes"], attributes["txsentinel.to"]), (42, "10.0.0.1:6379"))
        self.assertNotIn("txsentinel.clients_closed", attributes)
        self.assertEqual(dict(phase.attributes or {}), {"txsentinel.master": "mymaster"})

    def test_votes(self) -> None:
        """A vote is an event of the span of the Sentinel, at the time of the answer."""
        record = failover_record()
        (event,) = spans_of(record)[1].events
        at = record.voters[0].answered_at
        assert at is not None
        self.assertEqual((event.name, event.timestamp), ("vote", at.unix_ms * 1_000_000))

    def test_failed(self) -> None:
        """A failover that did not switch is an error; one that did has no status."""
        self.assertEqual({each.status.status_code for each in spans_of(failover_record())}, {StatusCode.UNSET})
        record = replace(failover_record(), outcome=Outcome.NO_GOOD_REPLICA)
        root, _, *phases = spans_of(record)
        self.assertEqual((root.status.status_code, root.status.description), (StatusCode.ERROR, "no_good_replica"))
        self.assertEqual({each.status.status_code for each in phases}, {StatusCode.UNSET})

    def test_encoding(self) -> None:
        """The exporter can encode the spans, names of any characters included."""
        record = replace(failover_record(), master="caché")
        message = encode_spans(spans_of(record))
        (scope,) = message.resource_spans[0].scope_spans
        self.assertEqual(len(scope.spans), 5)

    def test_no_phases(self) -> None:
        """A record without phases has no spans."""
        self.assertEqual(spans_of(replace(failover_record(), phases=())), [])


class SettingTests(SynchronousTestCase):
    """What may be set."""

    def test_endpoint(self) -> None:
        """A collector without a path gets that of OTLP; without a setting the variables apply."""
        self.assertEqual(read_settings("http://127.0.0.1:4318", []).endpoint, "http://127.0.0.1:4318/v1/traces")
        self.assertEqual(read_settings("https://a.example/otlp/v1/traces", []).endpoint[-15:], "/otlp/v1/traces")
        self.assertEqual(read_settings("", []).endpoint, "")

    def test_headers(self) -> None:
        """Headers come from a file, and are part of no text."""
        path = Path(self.mktemp())
        path.write_text("# of the provider\nAuthorization=Basic geheim\n\nx-scope-orgid: 7\n")
        settings = read_settings(f"http://a.example;headers-file={path}", [])
        self.assertEqual(dict(settings.headers), {"authorization": "Basic geheim", "x-scope-orgid": "7"})
        self.assertNotIn("geheim", repr(settings))
        error = self.assertRaises(ValueError, parse_headers, b"a=b\ngeheim")
        self.assertEqual(str(error), "line 2 is not name=value")

    def test_lines(self) -> None:
        """Lines add to the argument."""
        lines = [ExtensionSetting("masters", ("my*", "cache")), ExtensionSetting("delay", ("500ms",))]
        settings = read_settings("", lines)
        self.assertEqual((settings.wants("mymaster"), settings.wants("other"), settings.delay), (True, False, 0.5))

    def test_refusals(self) -> None:
        """Wrong settings are refused with the place and the reason."""
        for name, values, reason in (
            ("colour", ("red",), "unknown setting"),
            ("endpoint", ("localhost:4318",), "must be a URL"),
            ("endpoint", ("http://user:geheim@a.example",), "headers-file"),
            ("endpoint", (), "one value"),
            ("delay", ("soon",), "must be a duration"),
            ("delay", ("1h",), "between 0 and 600"),
            ("masters", (), "needs a value"),
            ("headers-file", ("/nowhere",), "No such file"),
        ):
            line = ExtensionSetting(name, values, "/etc/ext, line 3")
            error = self.assertRaises(SettingError, read_settings, "", [line])
            self.assertTrue(str(error).startswith("/etc/ext, line 3: "))
            self.assertIn(reason, str(error))
            self.assertNotIn("geheim", str(error))


class FakeExporter(SpanExporter):
    """Keeps batches, and answers as the test wants."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.result = SpanExportResult.SUCCESS
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep the names of spans."""
        self.batches.append([each.name for each in spans])
        return self.result

    def shutdown(self) -> None:
        """Be closed."""
        self.closed = True


class ServiceTests(SynchronousTestCase):
    """When traces are sent."""

    def setUp(self) -> None:
        self.reactor = ImmediateReactor()
        self.view = FakeView(healthy_master())
        self.view.records = []
        self.exporter = FakeExporter()
        settings = OtelSettings(masters=("my*",), delay=3.0)
        self.service = TraceService(
            self.reactor, self.view, settings, lambda _: self.exporter, random=lambda low, high: high
        )
        self.warnings: list[str] = []
        observe_log(self, self.record)
        self.service.startService()

    def record(self, event: LogEvent) -> None:
        """Keep the text of a warning."""
        if event.get("log_level") is LogLevel.warn:
            self.warnings.append(formatEvent(event))

    def finish(self, *records: FailoverRecord) -> None:
        """Have failovers end."""
        self.view.records = [*records, *self.view.records]
        self.view.publish("+switch-master", "mymaster 10.0.0.9 6379 10.0.0.1 6379", "mymaster")
        self.reactor.advance(INTERVAL)

    def test_sent_after_the_delay(self) -> None:
        """A failover is sent after the delay, as the history has it then."""
        self.finish(failover_record())
        self.assertEqual(self.exporter.batches, [])
        record = failover_record()
        later = (*record.phases, replace(record.phases[-1], phase="clients_gone"))
        self.view.records = [replace(record, phases=later)]
        self.reactor.advance(3)
        (names,) = self.exporter.batches
        self.assertEqual(names[:2], ["failover mymaster", "leader"])
        self.assertEqual(names[-1], "clients_gone")

    def test_follower(self) -> None:
        """A follower makes no root."""
        self.view.put(replace(self.view.master("mymaster"), peers=self.view.master("mymaster").peers[:1]))
        self.finish(replace(as_follower(failover_record(), OWN_ID), leader=PEER_IDS[0]))
        self.reactor.advance(3)
        self.assertEqual(self.exporter.batches[0][0], "follower")

    def test_unwanted_master(self) -> None:
        """Failovers of other masters are not sent."""
        self.finish(failover_record("cache"))
        self.reactor.advance(10)
        self.assertEqual(self.exporter.batches, [])

    def test_collector_down(self) -> None:
        """What is not accepted is sent again, later and later, together with what has come since; logged once."""
        self.exporter.result = SpanExportResult.FAILURE
        self.finish(failover_record())
        self.reactor.advance(3)
        for delay in (1, 2, 4):
            self.reactor.advance(delay)
        self.assertEqual(len(self.exporter.batches), 4)
        self.finish(replace(failover_record(epoch=8), record_id="second"))
        self.reactor.advance(3)
        self.assertEqual(len(self.exporter.batches), 4)
        self.exporter.result = SpanExportResult.SUCCESS
        self.reactor.advance(8)
        self.assertEqual(self.exporter.batches[-1].count("failover mymaster"), 2)
        self.assertEqual((self.service.exported, len(self.warnings)), (2, 1))

    def test_bounded(self) -> None:
        """Of too many the oldest is discarded."""
        self.exporter.result = SpanExportResult.FAILURE
        records = [replace(failover_record(epoch=each), record_id=str(each)) for each in range(1, MAX_WAITING + 3)]
        for each in records:
            self.finish(each)
        self.reactor.advance(3)
        self.assertEqual(self.service.dropped, 2)

    def test_stop(self) -> None:
        """At the stop what waits is sent at once."""
        self.finish(failover_record())
        self.successResultOf(self.service.stopService())
        self.assertEqual((len(self.exporter.batches), self.exporter.closed), (1, True))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_while_down(self) -> None:
        """If the collector was down, the stop does not wait for it."""
        self.exporter.result = SpanExportResult.FAILURE
        self.finish(failover_record())
        self.reactor.advance(3)
        self.successResultOf(self.service.stopService())
        self.assertEqual((len(self.exporter.batches), len(self.warnings)), (1, 2))
        self.assertIn("1 failovers were not sent", self.warnings[-1])
