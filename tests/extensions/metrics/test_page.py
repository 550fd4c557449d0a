"""The page of metrics of a fake Sentinel, read by the parsers of Prometheus."""

from __future__ import annotations

import shutil
import subprocess
import unittest
from dataclasses import replace
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import (
    FakeView,
    failover_record,
    healthy_master,
    instant,
    publisher_state,
    three_masters,
)
from tests.model.records import UNKNOWN
from txsentinel.extensions.metrics import peers
from txsentinel.extensions.metrics.catalogue import CATALOGUE, REDIS_DOWN_AFTER, REDIS_PEER
from txsentinel.extensions.metrics.format import Format, escaped, negotiated
from txsentinel.extensions.metrics.masters import MASTERS_PER_STEP, MetricsOptions
from txsentinel.extensions.metrics.page import MAX_AGE, MetricsPages
from txsentinel.model.history import DataLoss, FailoverKind, LossVerdict, ObserverRole, Outcome, PhaseTime
from txsentinel.model.receipt import Fence, NewMaster, OldMaster, Receipt, ReceiptVerdict
from txsentinel.model.snapshots import Endpoint, Instant, PauseSnapshot, StorageState, TiltState

PAUSE = PauseSnapshot(Instant(1_800_000_000_000), "failover", "a", "", Instant(1), "x", False, True, None, ())

WORDS = ("proven", "unproven", "lost")
RECEIPT = Receipt(
    "01JF",
    "fence",
    "mymaster",
    OldMaster(Endpoint("10.0.0.9", 6379), "e" * 40, 500, 500),
    NewMaster(Endpoint("10.0.0.1", 6379), "e" * 40, 500),
    Fence("client-pause", instant(10), 12, instant(20)),
    instant(10),
    ReceiptVerdict.PROVEN,
    "all is there",
    None,
    None,
    None,
    (),
)

ALL = MetricsOptions(replica_lag=True, peer_info=True)

HOSTILE = ('a"b', "back\\slash", "line\nbreak", 'x"} 1\nredis_up 0\n# ', "caf\udce9", "ünï", " ", "{}", "a,b=c")
"""Names of masters that would end a label, a line or the page, or are no UTF-8."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class PageTestCase(SynchronousTestCase):
    """A fake Sentinel and its pages."""

    def make(self, view: FakeView, options: MetricsOptions | None = None) -> None:
        """Begin with this Sentinel."""
        self.view = view
        self.now = 1_000.0
        self.pages = MetricsPages(view, lambda: self.now, options)

    def text(self, text_format: Format = Format.TEXT) -> str:
        """Return a whole new page."""
        self.now += 2 * MAX_AGE
        return b"".join(self.pages.page(text_format).parts).decode()

    def samples(self, text: str | None = None) -> Samples:
        """Return the samples of a page by name and labels."""
        found: Samples = {}
        for family in text_families(self.text() if text is None else text):
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                self.assertNotIn(key, found)
                found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one sample of a new page."""
        return self.samples()[name, tuple(labels.items())]


class PublisherTests(PageTestCase):
    """Publishers."""

    def test_publishers(self) -> None:
        """Each has outcomes, lag and what is pending; two of one name are added. Without one there is nothing."""
        self.make(three_masters())
        self.assertNotIn("publish", self.text())
        self.view.publishers.add(lambda master: [publisher_state()] * 2)
        samples = self.samples()
        etcd = ("publisher", "etcd")
        self.assertEqual(samples["txsentinel_publish_total", (etcd, ("outcome", "failed"))], 6)
        self.assertEqual(samples["txsentinel_publish_pending", (etcd,)], 2)
        self.assertEqual(samples["txsentinel_publish_lag_seconds_bucket", (etcd, ("le", "0.05"))], 2)
        self.assertEqual(samples["txsentinel_publish_lag_seconds_sum", (etcd,)], 0.08)


class PeerTests(PageTestCase):
    """What other Sentinels have differently."""

    def test_differences(self) -> None:
        """Each master has one sample for each thing that may differ; the others are asked again after a while."""
        self.make(three_masters())
        self.text()
        self.assertEqual(self.view.compared, ["mymaster", "sessions", "queue"])
        samples = self.samples()
        self.assertEqual(len(self.view.compared), 3)
        for about, count in (("address", 0), ("epoch", 1), ("quorum", 1), ("options", 0)):
            labels = (("master", "mymaster"), ("about", about))
            self.assertEqual(samples["txsentinel_peers_disagreeing", labels], count)
        self.view.differences = ()
        self.now += peers.MAX_AGE
        self.text()
        self.assertEqual(len(self.view.compared), 6)
        self.assertEqual(self.value("txsentinel_peers_disagreeing", master="mymaster", about="quorum"), 0)
        self.view.remove("mymaster")
        self.assertNotIn('peers_disagreeing{master="mymaster"', self.text())

    def test_many(self) -> None:
        """Of many masters a part is asked for each page, those first whose answers are the oldest."""
        self.make(FakeView(*(healthy_master(f"m{number}") for number in range(400))))
        for _ in range(peers.PAGES_FOR_ALL):
            before = len(self.view.compared)
            self.text()
            self.assertEqual(len(self.view.compared) - before, 400 // peers.PAGES_FOR_ALL)
        self.assertEqual(len(set(self.view.compared)), 400)
        first = self.view.compared[0]
        del self.view.compared[:]
        self.now += peers.MAX_AGE
        self.text()
        self.assertEqual(self.view.compared[0], first)


class FormatTests(PageTestCase):
    """Both formats are read by the parsers of the Python client, and by promtool."""

    def test_formats_agree(self) -> None:
        """Both have the same families and samples, with the types and the names that each demands."""
        self.make(three_masters(), ALL)
        text, open_metrics = self.text(), self.text(Format.OPEN_METRICS)
        found: list[Samples] = []
        for families in (text_families(text), open_metrics_families(open_metrics)):
            samples = {
                (each.name, tuple(each.labels.items())): each.value for family in families for each in family.samples
            }
            found.append({key: value for key, value in samples.items() if not key[0].startswith("process_")})
        self.assertEqual(found[0], found[1])
        self.assertGreater(len(found[0]), 100)
        self.assertTrue(open_metrics.endswith("\n# EOF\n"))
        self.assertNotIn("# EOF", text)

    def test_types(self) -> None:
        """Each family of the catalogue has the type and the labels that it is listed with."""
        self.make(three_masters(), ALL)
        self.view.measured.events["+sdown"] += 1
        self.view.measured.link_failures["peer", "refused"] += 1
        self.view.measured.votes["refused", "leased"] += 1
        self.view.publishers.add(lambda master: [publisher_state()])
        self.view.put(replace(healthy_master("paused"), pause=PAUSE))
        self.view.records = [replace(self.view.records[0], receipt=RECEIPT)]
        families: dict[str, Any] = {each.name: each for each in open_metrics_families(self.text(Format.OPEN_METRICS))}
        self.assertEqual(set(families), {each.name for each in CATALOGUE})
        for each in CATALOGUE:
            with self.subTest(name=each.name):
                self.assertEqual(
                    (families[each.name].type, families[each.name].documentation), (each.kind.value, each.help)
                )
                labels = {name for sample in families[each.name].samples for name in sample.labels} - {"le"}
                self.assertEqual(labels, set(each.labels))

    def test_pauses(self) -> None:
        """A paused master has the end of its pause, and whether a failover is possible; others have neither."""
        for guaranteed in (True, False):
            paused = replace(healthy_master("p"), pause=replace(PAUSE, guaranteed=guaranteed))
            self.make(FakeView(healthy_master("m"), paused))
            self.assertEqual(self.value("txsentinel_master_paused", master="p"), 1)
            self.assertEqual(self.value("txsentinel_pause_until_timestamp_seconds", master="p"), 1_800_000_000)
            self.assertEqual(self.value("txsentinel_pause_guaranteed", master="p"), int(guaranteed))
            self.assertEqual(self.value("txsentinel_master_paused", master="m"), 0)
            self.assertNotIn('txsentinel_pause_until_timestamp_seconds{master="m"', self.text())

    def test_negotiation(self) -> None:
        """The header of Prometheus selects OpenMetrics; a browser and curl get text."""
        prometheus = (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        )
        for accept, expected in (
            (prometheus, Format.OPEN_METRICS),
            ("application/openmetrics-text", Format.OPEN_METRICS),
            ("application/openmetrics-text;version=2.0.0", Format.TEXT),
            ("application/openmetrics-text;q=0.1, text/plain", Format.TEXT),
            ("application/openmetrics-text;q=many", Format.TEXT),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
            ("*/*", Format.TEXT),
            ("", Format.TEXT),
            (None, Format.TEXT),
        ):
            with self.subTest(accept=accept):
                self.assertIs(negotiated(accept), expected)

    def test_hostile_names(self) -> None:
        """No name of a master ends a label or a line, and bytes that are no UTF-8 are shown as escapes."""
        self.make(FakeView(*(healthy_master(name) for name in HOSTILE)), ALL)
        for families, text_format in ((text_families, Format.TEXT), (open_metrics_families, Format.OPEN_METRICS)):
            masters = [
                sample.labels["master"]
                for family in families(self.text(text_format))
                for sample in family.samples
                if sample.name == "txsentinel_master_up"
            ]
            self.assertEqual(masters, [name if name != "caf\udce9" else "caf\\xe9" for name in HOSTILE])
        self.assertNotIn("redis_up", {name for name, _ in self.samples()})

    def test_escapes(self) -> None:
        """The three characters that the format escapes."""
        self.assertEqual(escaped('\\ "\n'), '\\\\ \\"\\n')

    def test_promtool(self) -> None:
        """The linter of Prometheus finds nothing in our names, and one unit in those of redis_exporter."""
        if shutil.which("promtool") is None:
            raise unittest.SkipTest("promtool is not installed")
        for options, expected in (
            (MetricsOptions(redis_names=False, replica_lag=True), (0, "")),
            (
                ALL,
                (
                    3,
                    f'{REDIS_DOWN_AFTER.name} use base unit "seconds" instead of "milliseconds"',
                ),
            ),
        ):
            self.make(FakeView(*(healthy_master(name) for name in HOSTILE), *three_masters().masters()), options)
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=self.text().encode(), capture_output=True, timeout=60
            )
            self.assertEqual((done.returncode, (done.stdout + done.stderr).decode().strip()), expected)


class MasterTests(PageTestCase):
    """The metrics of masters follow their snapshots."""

    def test_states(self) -> None:
        """The three masters of the fixture."""
        self.make(three_masters())
        samples = self.samples()

        def values(name: str, label: str = "master") -> list[float]:
            return [samples[name, ((label, each),)] for each in ("mymaster", "sessions", "queue")]

        self.assertEqual(values("txsentinel_master_up"), [1, 0, 0])
        self.assertEqual(values("txsentinel_master_odown"), [0, 1, 0])
        self.assertEqual(values("txsentinel_master_failover_in_progress"), [0, 1, 0])
        self.assertEqual(values("txsentinel_voters_reachable"), [3, 2, 1])
        self.assertEqual(values("txsentinel_failures_survivable"), [1, 0, -1])
        self.assertEqual(values("txsentinel_replicas_fit"), [1, 1, 0])
        self.assertEqual(samples["txsentinel_replica_unfit", (("master", "mymaster"), ("reason", "priority_zero"))], 1)
        status = "redis_sentinel_master_ckquorum_status"
        self.assertEqual(samples[status, (("master_name", "sessions"), ("message", "OK"))], 1)
        self.assertEqual(samples[status, (("master_name", "queue"), ("message", "NOQUORUM"))], 0)
        age = "redis_sentinel_master_last_ok_ping_reply_seconds"
        # IPv6 addresses have no brackets there, as in INFO.
        self.assertEqual(samples[age, (("master_name", "queue"), ("master_address", "2001:db8::5:6390"))], 20)

    def test_changes(self) -> None:
        """A changed, a new and a removed master; the others stay as they were."""
        self.make(three_masters())
        before = self.samples()
        moved = replace(healthy_master(), address=Endpoint("10.0.0.2", 6379), config_epoch=8)
        self.view.put(moved)
        self.view.put(healthy_master("new"))
        self.view.remove("queue")
        after = self.samples()
        self.assertEqual(after["txsentinel_master_config_epoch", (("master", "mymaster"),)], 8)
        self.assertEqual(after["txsentinel_master_up", (("master", "new"),)], 1)
        self.assertFalse(any("queue" in dict(labels).values() for _, labels in after))
        self.assertEqual(
            {key: value for key, value in after.items() if ("master", "sessions") in key[1]},
            {key: value for key, value in before.items() if ("master", "sessions") in key[1]},
        )

    def test_what_does_not_show(self) -> None:
        """A changed offset makes no line anew."""
        self.make(FakeView(*(healthy_master(f"m{number}") for number in range(300))))
        first = self.text()
        # That nothing is rendered again cannot be seen from the text.
        blocks = self.pages._masters._blocks
        lines = blocks["m7"].lines
        self.view.put(replace(healthy_master("m7"), offset=6_000_000))
        second = self.text()
        # As above.
        self.assertIs(self.pages._masters._blocks["m7"].lines, lines)
        keys = [[key for key in self.samples(each) if "disagreeing" not in key[0]] for each in (first, second)]
        self.assertEqual(*keys)

    def test_lag(self) -> None:
        """With many masters the lag of replicas is shown only if it is asked for."""
        masters = [healthy_master(f"m{number}") for number in range(201)]
        for options, expected in ((MetricsOptions(), False), (MetricsOptions(replica_lag=True), True)):
            self.make(FakeView(*masters), options)
            self.assertEqual("txsentinel_replica_lag_bytes{" in self.text(), expected)
            self.view.remove("m0")
            self.assertTrue("txsentinel_replica_lag_bytes{" in self.text())

    def test_quorum(self) -> None:
        """What CKQUORUM refuses: too few Sentinels, a quorum above them, no replica, TILT, and failing storage."""
        sound = healthy_master()
        for master, expected in (
            (sound, 1),
            (replace(sound, ok_sentinels=1), 0),
            (replace(sound, voters=5, ok_sentinels=2), 0),
            (replace(sound, settings=replace(sound.settings, quorum=3), ok_sentinels=2), 0),
            (replace(sound, settings=replace(sound.settings, quorum=4), ok_sentinels=4), 0),
            (replace(sound, replicas=()), 0),
        ):
            self.make(FakeView(master))
            answers = [value for (name, _), value in self.samples().items() if name.endswith("ckquorum_status")]
            self.assertEqual(answers, [expected], master)
        self.make(FakeView(sound))
        labels = {"master_name": "mymaster", "message": "OK"}
        self.assertEqual(self.value("redis_sentinel_master_ckquorum_status", **labels), 1)
        self.view.sentinel = replace(self.view.sentinel, tilt=TiltState(True, instant(1), instant(2), "loop-late", 1))
        labels["message"] = "NOQUORUM"
        self.assertEqual(self.value("redis_sentinel_master_ckquorum_status", **labels), 0)
        self.view.sentinel = replace(
            self.view.sentinel,
            tilt=TiltState(False, None, None, None, 1),
            storage=StorageState("failing", "No space left on device", 2, 1, 1),
        )
        self.assertEqual(self.value("redis_sentinel_master_ckquorum_status", **labels), 0)
        self.assertEqual(self.value("txsentinel_storage_failing"), 1)

    def test_without_the_other_names(self) -> None:
        """redis_exporter's names can be left out."""
        self.make(three_masters(), MetricsOptions(redis_names=False, peer_info=True))
        self.assertEqual({name for name, _ in self.samples() if name.startswith("redis")}, set())

    def test_peers(self) -> None:
        """One sample for each other Sentinel, only if it is asked for."""
        self.make(three_masters())
        self.assertNotIn(REDIS_PEER.sample, self.text())
        self.make(three_masters(), ALL)
        peers = [dict(labels) for name, labels in self.samples() if name == REDIS_PEER.sample]
        self.assertEqual(len(peers), 5)
        self.assertEqual((peers[0]["ip"], peers[0]["port"], peers[0]["flags"]), ("10.0.0.12", "26379", "sentinel"))


class CounterTests(PageTestCase):
    """Counters and histograms."""

    def test_measurements(self) -> None:
        """Counts and times of the measurements, in seconds."""
        self.make(three_masters())
        measured = self.view.measured
        for duration in (1, 3, 3_000):
            measured.ping_round_trips["replica"].observe(duration)
        measured.commits.observe(12)
        measured.commit_failed()
        measured.tilts["loop-late"] += 2
        measured.tilt_ms["loop-late"] += 30_500
        measured.events["+sdown"] += 4
        measured.link_failures["peer", "auth"] += 5
        measured.votes["granted", ""] += 6
        samples = self.samples()

        def value(name: str, **labels: str) -> float:
            return samples[f"txsentinel_{name}", tuple(labels.items())]

        bounds = ("0.001", "0.002", "0.005", "2.5", "+Inf")
        buckets = [value("ping_round_trip_seconds_bucket", kind="replica", le=bound) for bound in bounds]
        self.assertEqual(buckets, [1, 1, 2, 2, 3])
        self.assertEqual(value("ping_round_trip_seconds_sum", kind="replica"), 3.004)
        self.assertEqual(value("ping_round_trip_seconds_count", kind="peer"), 0)
        self.assertEqual(
            (value("commits_total"), value("commit_seconds_sum"), value("commit_failures_total")), (1, 0.012, 1)
        )
        self.assertEqual(value("tilt_total", cause="loop-late"), 2)
        self.assertEqual(value("tilt_seconds_total", cause="loop-late"), 30.5)
        self.assertEqual(value("tilt_total", cause="clock-stepped"), 0)
        self.assertEqual(value("events_total", channel="+sdown"), 4)
        self.assertEqual(value("link_failures_total", kind="peer", cause="auth"), 5)
        self.assertEqual(value("votes_total", answer="granted", reason=""), 6)

    def test_failovers(self) -> None:
        """Each record counts once; those of earlier processes do not count."""
        self.make(three_masters())
        self.view.records = []
        labels = {"master": "mymaster", "kind": "automatic", "outcome": "switched", "role": "leader"}
        self.assertEqual(self.value("txsentinel_failovers_total", **labels), 0)
        earlier = replace(failover_record(epoch=2), phases=(PhaseTime("switched", instant(-5), None),))
        self.view.records = [failover_record(epoch=7), earlier]
        self.view.put(healthy_master())
        self.assertEqual(self.value("txsentinel_failovers_total", **labels), 1)
        refused = replace(
            failover_record(epoch=8), outcome=Outcome.NO_GOOD_REPLICA, observer_role=ObserverRole.FOLLOWER
        )
        self.view.records.insert(0, refused)
        self.view.put(healthy_master())
        samples = self.samples()
        self.assertEqual(samples["txsentinel_failovers_total", tuple(labels.items())], 1)
        labels.update(outcome="no_good_replica", role="follower")
        self.assertEqual(samples["txsentinel_failovers_total", tuple(labels.items())], 1)
        self.assertEqual(samples["txsentinel_history_records_total", ()], 2)
        self.assertEqual(samples["txsentinel_lost_bytes_total", (("master", "mymaster"),)], 84)

    def test_phases(self) -> None:
        """Phases of failovers that switched, as far as their times are known."""
        self.make(three_masters())
        self.view.records = [failover_record()]
        samples = self.samples()
        found = {
            phase: samples["txsentinel_failover_phase_seconds_sum", (("phase", phase),)]
            for phase in ("agree", "elect", "promote", "total")
        }
        self.assertEqual(found, {"agree": 0.5, "elect": 0.5, "promote": 0, "total": 2})
        self.assertEqual(samples["txsentinel_failover_phase_seconds_count", (("phase", "promote"),)], 0)

    def test_receipts(self) -> None:
        """Ordered failovers, by the verdict on lost writes."""
        self.make(three_masters())
        record = replace(failover_record(), kind=FailoverKind.COORDINATED)
        proven = replace(record, record_id="2", loss=replace(record.loss, verdict=LossVerdict.NONE, lost_bytes=0))
        self.view.records = [record, proven, failover_record(epoch=9)]
        samples = self.samples()
        found = [
            samples["txsentinel_switchover_receipts_total", (("verdict", word),)]
            for word in ("proven", "unproven", "lost")
        ]
        self.assertEqual(found, [1, 0, 1])

    def test_switchovers(self) -> None:
        """A receipt counts once it is known, by its own verdict and not by that on the loss, with the held writes."""
        self.make(three_masters())
        waiting = replace(failover_record(), kind=FailoverKind.SWITCHOVER)
        self.view.records = [replace(waiting, loss=UNKNOWN)]
        self.assertEqual(self.value("txsentinel_switchover_receipts_total", verdict="proven"), 0)
        self.view.records = [replace(waiting, receipt=RECEIPT)]
        for _ in range(2):
            self.view.put(healthy_master())
            samples = self.samples()
            found = [samples["txsentinel_switchover_receipts_total", (("verdict", word),)] for word in WORDS]
            self.assertEqual(found, [1, 0, 0])
            hold = ("txsentinel_switchover_write_hold_seconds_sum", (("method", "fence"),))
            self.assertEqual(samples[hold], 0.012)

    def test_amended(self) -> None:
        """A loss that becomes known later counts once, also if a newer failover was recorded meanwhile."""
        self.make(three_masters())
        known = replace(failover_record(), kind=FailoverKind.COORDINATED)
        unknown = replace(known, loss=DataLoss(LossVerdict.UNKNOWN, None, None, None, "not back"))
        newer = replace(unknown, record_id="2", epoch=9)
        for records, lost, counted in (([unknown], 0, 0), ([newer, unknown], 0, 0), ([newer, known], 42, 1)):
            for _ in range(2):
                self.view.records = list(records)
                self.view.put(healthy_master())
                self.now += 2
                samples = self.samples()
                self.assertEqual(samples.get(("txsentinel_lost_bytes_total", (("master", "mymaster"),)), 0), lost)
                receipts = samples["txsentinel_switchover_receipts_total", (("verdict", "lost"),)]
                self.assertEqual(receipts, counted)
        self.assertEqual(samples["txsentinel_history_records_total", ()], 2)


class PortionTests(PageTestCase):
    """How a page is made."""

    def test_kept(self) -> None:
        """A page is given again within a second, also in portions at the same time; then a new one is made."""
        self.make(three_masters())
        first = self.pages.page(Format.TEXT)
        whole = b"".join(first.parts)
        self.view.put(healthy_master("new"))
        self.now += 0.9
        again = self.pages.page(Format.TEXT)
        self.assertEqual((again.number, b"".join(again.parts)), (first.number, whole))
        self.assertNotEqual(self.pages.page(Format.OPEN_METRICS).number, first.number)
        self.now += 0.2
        other = self.pages.page(Format.TEXT)
        self.assertNotEqual(other.number, first.number)
        self.assertIn(b'"new"', b"".join(other.parts))

    def test_unfinished(self) -> None:
        """A page that no client has read to its end is not given to another one."""
        self.make(three_masters())
        begun = self.pages.page(Format.TEXT)
        next(begun.parts)
        other = self.pages.page(Format.TEXT)
        self.assertNotEqual(other.number, begun.number)
        self.assertEqual(self.samples(b"".join(other.parts).decode()).keys(), self.samples().keys())

    def test_at_the_same_time(self) -> None:
        """Two pages that are made in turns are both complete, although masters change meanwhile."""
        self.make(FakeView(*(healthy_master(f"m{number}") for number in range(50))))
        one, other = self.pages.page(Format.TEXT), self.pages.page(Format.OPEN_METRICS)
        texts: dict[int, list[bytes]] = {one.number: [], other.number: []}
        for _ in range(3):
            texts[one.number].append(next(one.parts))
        self.view.put(replace(healthy_master("m3"), status="odown"))
        for _ in range(3):
            texts[other.number].append(next(other.parts))
        for page in (other, one):
            texts[page.number] += page.parts
        self.samples(b"".join(texts[one.number]).decode())
        odown = 'txsentinel_master_odown{master="m3"} 1\n'
        self.assertIn(odown, b"".join(texts[other.number]).decode())
        self.assertIn(odown, self.text())

    def test_steps(self) -> None:
        """A part has one family at most, and making the lines of many masters is interrupted."""
        self.make(FakeView(*(healthy_master(f"m{number}") for number in range(1_000))))
        parts = list(self.pages.page(Format.TEXT).parts)
        self.assertLessEqual(max(part.count(b"# TYPE ") for part in parts), 1)
        self.assertGreaterEqual(parts.count(b""), 1_000 // MASTERS_PER_STEP)
