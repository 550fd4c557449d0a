"""``txsentinel history`` over canned records."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.cli.operator.test_acting import at, fake_connections
from tests.remote.samples import NAME, SENTINELS, fleet, sentinel
from txsentinel.cli.operator import past
from txsentinel.model.history import (
    DataLoss,
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    ReplicaRecord,
    Resyncs,
    ServerRecord,
    VoterRecord,
    failover_group,
)
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.reports import SentinelReport

OLD, NEW = Endpoint("10.0.0.2", 6379), Endpoint("10.0.0.1", 6379)
BEGIN = 1_800_000_000_000


def record(observer: str, role: ObserverRole, epoch: int = 7) -> FailoverRecord:
    """Return the record of one Sentinel on the failover of an epoch."""
    phases = [("last_ok_ping", 0, None), ("sdown", 1055, 1055), ("durable", 1132, 77), ("switched", 1300, 168)]
    return FailoverRecord(
        f"01M8RSNTH0FBZDA309G4HG8T{epoch}{observer}",
        failover_group(NAME, epoch),
        NAME,
        FailoverKind.AUTOMATIC,
        Outcome.SWITCHED,
        observer * 40,
        role,
        "a" * 40,
        "down",
        "refused",
        ServerRecord(OLD, None, None, 1000, None),
        ServerRecord(NEW, None, None, 900, 100),
        epoch,
        epoch,
        tuple(PhaseTime(name, Instant(BEGIN + epoch * 60_000 + ms), took) for name, ms, took in phases),
        (VoterRecord("b" * 40, "c", None, None, "a" * 40, epoch, None),),
        (ReplicaRecord(NEW, 900, 100, 100, 1, None),),
        "more data",
        DataLoss(LossVerdict.LOST, 100, 900, 1000, "100 bytes"),
        Resyncs(1, 1),
        3,
        None,
    )


class HistoryTests(VerbCase):
    """Two Sentinels of ours and a C one."""

    def setUp(self) -> None:
        super().setUp()
        ours = [sentinel(host, kind="txsentinel", version="0.2.0") for host in SENTINELS[:2]]
        self.fleet = fleet(*ours, sentinel(SENTINELS[2]))
        self.replies: dict[Endpoint, dict[str, Any]] = {}
        self.called = fake_connections(self, past, self.replies)
        self.answer(SENTINELS[0], record("a", ObserverRole.LEADER), record("a", ObserverRole.LEADER, 5))
        self.answer(SENTINELS[1], record("b", ObserverRole.FOLLOWER))

    def answer(self, host: str, *records: FailoverRecord) -> None:
        """Let a Sentinel answer with records."""
        found = [plain(each, unix_instant) for each in records]
        self.replies[at(host)] = {
            f"TXSENTINEL HISTORY {words}": found
            for words in ("* 10", f"{NAME} 10", "* 200", f"{NAME} 200", f"{NAME} 1")
        }

    def test_table(self) -> None:
        """Records of one failover are merged, the newest is first; C Sentinels are not asked."""
        found = self.run_verb("history", NAME)
        lines = found.stdout.splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(
            " ".join(lines[1].split()),
            "01M8RSNTH0 2027-01-15T08:07:01.300Z mymaster automatic switched 10.0.0.2:6379 10.0.0.1:6379"
            " 1.1s lost 100 B 2",
        )
        self.assertNotIn(at(SENTINELS[2]), {endpoint for endpoint, _ in self.called})
        self.assertEqual(found.status, 0)

    def test_acknowledge(self) -> None:
        """A failover is acknowledged by its group where it is known; the beginning of an ID suffices."""
        orders: list[tuple[str, ...]] = []

        def order(report: SentinelReport, settings: object, seconds: float, *words: str) -> object:
            orders.append((report.endpoint.host, *words))
            if words[1] != failover_group(NAME, 7) or report.endpoint.host == SENTINELS[0]:
                raise ErrorAnswer("ERR No such record")
            return b"OK"

        self.patch(past, "order", order)
        found = self.run_verb("history", "ack", "01M8RSNTH0FBZDA309G4HG8T7", "--comment", "disk was full")
        self.assertEqual((found.status, found.stderr), (0, ""))
        self.assertIn("acknowledged at 10.0.0.12:26379", found.stdout)
        words = ("ACK", failover_group(NAME, 7), "disk was full")
        self.assertEqual(orders, [(SENTINELS[0], *words), (SENTINELS[1], *words)])
        self.assertEqual(self.run_verb("history", "ack", "f" * 16).status, 1)
        self.assertEqual(self.run_verb("history", "ack", "01M8").status, 1)
        self.assertEqual(self.run_verb("history", NAME, "--comment", "x").status, 64)

    def test_limit(self) -> None:
        """Only the latest ones are shown."""
        self.assertEqual(len(json.loads(self.run_verb("history", NAME, "-n", "1", "-o", "json").stdout)), 1)

    def test_one(self) -> None:
        """Phases, votes, replicas and other observers of one failover."""
        found = self.run_verb("history", "--show", "01m8rsnth0fbzda309g4hg8t7")
        for text in (
            "10.0.0.2:6379 -> 10.0.0.1:6379   automatic, switched, epoch 7",
            "by leader aaaaaaaa",
            "cause     down, refused",
            "lost 100 B: 100 bytes",
            "sdown               +1,055 ms",
            "bbbbbbbb (c) voted for aaaaaaaa in epoch 7",
            "10.0.0.1:6379  priority 100, offset 900, rank 1",
            "seen by   follower bbbbbbbb",
        ):
            self.assertIn(text, found.stdout)
        self.assertEqual(self.run_verb("history", "--show", "01M8RS").status, 1)
        self.assertIn("no failover has an ID ZZ", self.run_verb("history", "--show", "ZZ").stderr)

    def test_problems(self) -> None:
        """A Sentinel that does not answer is named; without any answer the status is 69."""
        self.replies[at(SENTINELS[1])] = {f"TXSENTINEL HISTORY {NAME} 10": ConnectionFailed("no answer in time")}
        found = self.run_verb("history", NAME)
        self.assertIn("! 10.0.0.12:26379: no answer in time", found.stdout)
        self.replies.clear()
        found = self.run_verb("history", NAME)
        self.assertEqual(found.status, 69)
        self.assertIn("10.0.0.11:26379: ERR unknown command", found.stderr)

    def test_c_sentinels(self) -> None:
        """They keep no records; the text names what records events."""
        self.fleet = fleet()
        found = self.run_verb("history")
        self.assertEqual(found.status, 69)
        self.assertIn("txsentinel watch --record FILE", found.stderr)

    def test_none(self) -> None:
        """A group that was never failed over."""
        self.answer(SENTINELS[0])
        self.answer(SENTINELS[1])
        self.assertEqual(self.run_verb("history").stdout, "no failover is recorded\n")

    def test_durations_end_with_the_abort(self) -> None:
        """A failover that was aborted has the time to its end."""
        aborted = replace(record("a", ObserverRole.LEADER), phases=(PhaseTime("campaign", Instant(5), None),))
        self.assertEqual(past.took_ms(aborted), 0)
        self.assertIsNone(past.took_ms(replace(aborted, phases=())))
