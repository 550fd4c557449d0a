"""The history of failovers with real servers: files, losses, aborted failovers, and groups with C Sentinels."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_moved
from tests.model.records import RECORD
from tests.servers import Connection, Fleet, Harness, ReplyError, SentinelProcess, missing, pairs, wait_for
from tests.test_tidy import ROOT
from txsentinel.model.history import FailoverKind, FailoverRecord, LossVerdict, ObserverRole, Outcome
from txsentinel.model.history_json import BadRecord, decode_record, decode_records, encode_record
from txsentinel.model.history_merge import MergedFailover, merge

LOG_TIME = re.compile(r"^\d+:X (\d+ \w+ \d+ [\d:.]+) . (\S+) (\w+) ", re.MULTILINE)
"""Date, event, and kind of the instance of a line of the log."""

EVENTS = {
    "sdown": "+sdown",
    "odown": "+odown",
    "elected": "+elected-leader",
    "selected": "+selected-slave",
    "switched": "+switch-master",
}
"""Phase → the event that is logged then."""

PARTIAL = re.compile(r"Trying a partial resynchronization \(request \w+:(\d+)\)")
"""The log line in which an old master that was demoted names the offset after its own last one."""


class Writer(threading.Thread):
    """A client that writes until it is disconnected."""

    def __init__(self, port: int, size: int = 100) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._value = "x" * size
        self.written = 0

    def run(self) -> None:
        """Write new keys."""
        try:
            with Connection(self._port) as connection:
                while True:
                    connection.call("SET", f"key{self.written}", self._value)
                    self.written += 1
        except (OSError, ReplyError):
            return


class HistoryTests(SynchronousTestCase):
    """Records in the state directories of real processes."""

    def fleet(self, stack: ExitStack, kinds: Sequence[str], server: str = "redis") -> Fleet:
        """Start Sentinels and servers, and wait until they are stable."""
        if missing(*kinds, server):
            raise SkipTest(missing(*kinds, server))
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, kinds, server, down_after=1000, failover_timeout=4000)
        fleet.start()
        shorten_periods(fleet.sentinels)
        return fleet

    def writing(self, fleet: Fleet) -> None:
        """Have a client write to the master."""
        writer = Writer(fleet.master_port())
        writer.start()
        wait_for(lambda: writer.written > 300, SECONDS, "the application to write")

    def records(self, sentinel: SentinelProcess) -> list[FailoverRecord]:
        """Return the records in the file of a Sentinel."""
        path = sentinel.config_path.with_name(f"{sentinel.config_path.name}.d") / "history.jsonl"
        contents = path.read_bytes() if path.exists() else b""
        # The last line may be about to be written.
        found, bad = decode_records(contents[: contents.rfind(b"\n") + 1])
        self.assertEqual([], bad)
        return found

    def merged(self, fleet: Fleet, *, verdicts: bool = False) -> MergedFailover:
        """Wait until each of our Sentinels has one record, with a verdict on the loss if wanted, and merge them."""
        ours = [sentinel for sentinel in fleet.sentinels if sentinel.kind == "txsentinel"]

        def complete() -> bool:
            found = [record for sentinel in ours for record in self.records(sentinel)]
            known = [record for record in found if record.loss.from_offset is not None or not verdicts]
            return len(known) == len(ours)

        wait_for(complete, SECONDS, "the records of all Sentinels")
        merged = merge(record for sentinel in ours for record in self.records(sentinel))
        self.assertEqual(1, len(merged), merged)
        return merged[0]

    def check_times(self, fleet: Fleet, record: FailoverRecord) -> None:
        """Check that the times between the phases are those between the lines of the observer's log."""
        observer = next(each for each in fleet.sentinels if each.call("SENTINEL", "MYID") == record.observer)
        logged: dict[str, float] = {}
        for date, event, kind in LOG_TIME.findall(observer.log_text()):
            moment = datetime.strptime(date, "%d %b %Y %H:%M:%S.%f")
            if event != "+sdown" or kind == "master":
                logged.setdefault(event, moment.timestamp() * 1000)
        phases = {phase.phase: phase.at.unix_ms for phase in record.phases}
        for phase, event in EVENTS.items():
            between = logged[event] - logged["+sdown"]
            # An event is logged once it is durable, a moment after the phase; on a busy machine that is long.
            self.assertLess(abs(phases[phase] - phases["sdown"] - between), 10_000, phase)

    def test_killed_master(self) -> None:
        """
        A master dies under load: three records merge to one. Another process of a Sentinel has them, too.

        The process of the old master is another one when it returns, so that nothing is known of its last offset.
        """
        with ExitStack() as stack:
            fleet = self.fleet(stack, ["txsentinel"] * 3)
            self.writing(fleet)
            old = fleet.master()
            old.kill()
            new = wait_moved(fleet, old)
            merged = self.merged(fleet)
            record = merged.record
            self.assertIs(ObserverRole.LEADER, record.observer_role)
            self.assertEqual(
                (FailoverKind.AUTOMATIC, Outcome.SWITCHED, "down"), (record.kind, record.outcome, record.cause)
            )
            assert record.to_server is not None
            self.assertEqual((old.port, new.port), (record.from_server.address.port, record.to_server.address.port))
            ids = {str(sentinel.call("SENTINEL", "MYID")) for sentinel in fleet.sentinels}
            self.assertEqual(ids, {record.observer, *(each.observer for each in merged.others)})
            self.assertEqual({record.leader}, {voter.vote for voter in record.voters if voter.answered_at is not None})
            self.assertEqual([1, 2], [replica.rank for replica in record.replicas])
            self.check_times(fleet, record)
            sentinel = fleet.sentinels[0]
            sentinel.kill()
            sentinel.start(keep_config=True)
            wait_for(lambda: sentinel.call("TXSENTINEL", "HISTORY"), SECONDS, "the record to be read")
            reply = sentinel.call("TXSENTINEL", "HISTORY", fleet.name)
            assert isinstance(reply, list)
            fields = pairs(reply[0])
            self.assertEqual((record.group, "switched"), (fields["group"], fields["outcome"]))
            self.assertEqual("ERR No such master with that name", self.refusal(sentinel, "TXSENTINEL", "HISTORY", "x"))

    def refusal(self, sentinel: SentinelProcess, *words: str) -> str:
        """Return the error that a Sentinel answers to a command."""
        with self.assertRaises(ReplyError) as caught:
            sentinel.call(*words)
        return str(caught.exception)

    def test_lost_writes(self) -> None:
        """A master that was suspended returns with writes that no replica has: the records have their exact number."""
        with ExitStack() as stack:
            fleet = self.fleet(stack, ["txsentinel"] * 3)
            old = fleet.master()
            replicas = [server for server in fleet.servers.values() if server is not old]
            self.writing(fleet)
            for replica in replicas:
                replica.freeze()
            # The buffers of the sockets hold a part, and the server the rest.
            with Connection(old.port) as connection:
                for number in range(4):
                    connection.call("SET", f"large{number}", "x" * 4_000_000)
            old.freeze()
            for replica in replicas:
                replica.thaw()
            new = wait_moved(fleet, old)
            old.thaw()
            record = self.merged(fleet, verdicts=True).record
            requested = PARTIAL.findall(old.log_text())
            fork = int(new.replication()["second_repl_offset"]) - 1
            last = int(requested[0]) - 1
            self.assertGreater(last - fork, 1_000_000)
            loss = record.loss
            self.assertEqual(
                (LossVerdict.LOST, last - fork, fork, last),
                (loss.verdict, loss.lost_bytes, loss.from_offset, loss.to_offset),
            )

    def test_orders(self) -> None:
        """An order that the master refuses leaves a record of an aborted failover; one that it takes loses no data."""
        with ExitStack() as stack:
            fleet = self.fleet(stack, ["txsentinel"] * 3)
            first, old = fleet.sentinels[0], fleet.master()
            words = ("SENTINEL", "FAILOVER", fleet.name, "COORDINATED")
            old.call("ACL", "SETUSER", "default", "-failover")
            wait_for(lambda: first.call(*words) == "OK", SECONDS, "the order to be taken")
            wait_for(lambda: self.records(first), SECONDS, "the record of the aborted failover")
            (aborted,) = self.records(first)
            self.assertEqual((FailoverKind.COORDINATED, Outcome.MASTER_TIMEOUT), (aborted.kind, aborted.outcome))
            self.assertEqual(("aborted", "operator"), (aborted.phases[-1].phase, aborted.cause))
            old.call("ACL", "SETUSER", "default", "+failover")
            self.writing(fleet)
            # The other Sentinels have voted, and may refuse another candidate for a moment.
            second = fleet.sentinels[1]
            wait_for(lambda: second.call(*words) == "OK", SECONDS, "the order to be taken")
            wait_moved(fleet, old)
            found = self.records
            wait_for(
                lambda: any(
                    each.loss.verdict is LossVerdict.NONE and "clients_gone" in [phase.phase for phase in each.phases]
                    for each in found(second)
                    if each.to_server
                ),
                SECONDS,
                "the verdict, and the end of the old connections",
            )
            record = next(each for each in self.records(second) if each.outcome is Outcome.SWITCHED)
            self.assertEqual((FailoverKind.COORDINATED, 0), (record.kind, record.loss.lost_bytes))
            self.assertIsNotNone(record.clients_closed)

    def test_mixed_group(self) -> None:
        """With C Sentinels, ours records its part, as the leader or not; the kind of each voter is known."""
        with ExitStack() as stack:
            fleet = self.fleet(stack, ["txsentinel", "redis", "redis"])
            old = fleet.master()
            old.kill()
            wait_moved(fleet, old)
            record = self.merged(fleet).record
            self.assertIs(Outcome.SWITCHED, record.outcome)
            if record.observer_role is ObserverRole.LEADER:
                self.assertEqual(["c", "c", "self"], sorted(voter.kind for voter in record.voters))
            else:
                self.assertEqual([("self", record.leader)], [(voter.kind, voter.vote) for voter in record.voters])


APPENDING = """
import sys
from txsentinel.process.appending import append_lines
path, line = sys.argv[1], sys.argv[2].encode() + b"\\n"
while True:
    append_lines(path, line * 20, 1 << 20, 4)
"""
"""A process that appends to a file for ever."""


class KilledWriterTests(SynchronousTestCase):
    """Processes that are killed while they append."""

    def test_kill(self) -> None:
        """Whatever they were doing, all records but the one that was being written can be read, over rotations."""
        path = Path(self.mktemp())
        line = encode_record(RECORD).decode().strip()
        kills = 8
        for number in range(kills):
            command = [sys.executable, "-c", APPENDING, str(path), line]
            with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL) as process:
                size = path.stat().st_size if path.exists() else 0

                def grown(size: int = size, more: int = 60_000 + 7_919 * number) -> bool:
                    now = path.stat().st_size if path.exists() else 0
                    return now > size + more or now < size

                wait_for(grown, SECONDS, "the file to grow", every=0.001)
                process.kill()
        whole = bad = 0
        for each in path.parent.glob(f"{path.name}*"):
            for row in each.read_bytes().split(b"\n"):
                if row:
                    try:
                        whole += decode_record(row) == RECORD
                    except BadRecord:
                        bad += 1
        self.assertGreater(whole, 200)
        self.assertLessEqual(bad, kills)
