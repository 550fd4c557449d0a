"""Switchovers from outside: their steps, how they are aborted, and what the receipt proves."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.fake_servers import NEW, OLD, REPLID, FakeServers
from tests.remote.samples import MASTER, NAME, SENTINELS, fleet, master_report, replica, sentinel, unreachable
from txsentinel.model.receipt import (
    REJECTED,
    REJECTED_WITH_GAPS,
    Fence,
    NewMaster,
    OldMaster,
    Receipt,
    ReceiptVerdict,
    judge,
)
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.ulid import new_ulid
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.changed_settings import ChangedSetting, ChangeLog, restore_settings
from txsentinel.remote.connection import ConnectionSettings
from txsentinel.remote.servers import ServerReport
from txsentinel.remote.switchover import Switchover, SwitchoverLimits, limits_for
from txsentinel.remote.switchover_checks import choose_leader, group_problems, server_problems
from txsentinel.remote.write_stops import RejectedWrites, SwitchoverAborted
from txsentinel.wire.values import ErrorLine


class SwitchoverTests(SynchronousTestCase):
    """One switchover over servers in memory."""

    def setUp(self) -> None:
        self.servers = FakeServers()
        self.lines: list[str] = []

    def switchover(self) -> Switchover:
        """Return a switchover that was not run yet."""
        settings = ConnectionSettings()
        servers = self.servers

        def progress(after_ms: int | None, text: str) -> None:
            self.lines.append(text if after_ms is None else f"{after_ms} {text}")

        return Switchover(
            servers.plan(),
            settings,
            settings,
            SwitchoverLimits(),
            progress,
            servers.connect,
            servers.clock,
            servers.read,
        )

    def run_one(self) -> Receipt:
        """Run a switchover."""
        return self.switchover().run()

    def aborted(self) -> str:
        """Run a switchover that is aborted; check that everything is undone, and return the reason."""
        error = self.assertRaises(SwitchoverAborted, self.run_one)
        self.assertFalse(self.servers.paused)
        self.assertEqual(self.servers.priority, 100)
        return str(error)

    def test_proven(self) -> None:
        """The steps are in order, the priority is restored, and the receipt has the figures."""
        self.servers.replica_offset -= 250
        receipt = self.run_one()
        self.assertEqual(
            self.servers.log,
            [
                "10.0.0.1 CONFIG SET replica-priority 1",
                "10.0.0.2 CLIENT PAUSE 10000 WRITE",
                "10.0.0.2 CLIENT PAUSE 60000 WRITE",
                f"10.0.0.11 SENTINEL FAILOVER {NAME}",
                "10.0.0.2 SLAVEOF 10.0.0.1 6379",
                "10.0.0.2 CLIENT KILL TYPE normal",
                "10.0.0.2 CLIENT KILL TYPE pubsub",
                "10.0.0.2 CLIENT UNPAUSE",
                "10.0.0.1 CONFIG SET replica-priority 100",
                "10.0.0.1 CONFIG REWRITE",
            ],
        )
        self.assertEqual((receipt.verdict, receipt.lost_bytes), (ReceiptVerdict.PROVEN, None))
        self.assertEqual(receipt.old, OldMaster(OLD, REPLID, 1_000_000, 1_000_000))
        self.assertEqual(receipt.new, NewMaster(NEW, REPLID, 1_000_000))
        self.assertEqual((receipt.clients_closed, len(receipt.sentinels)), (6, 3))
        assert receipt.resyncs is not None
        self.assertEqual((receipt.resyncs.partial, receipt.resyncs.full), (2, 0))
        self.assertIn("writes held at offset 1,000,000, replid 88888888", self.lines[1])

    def test_the_first_keeps_its_priority(self) -> None:
        """A candidate that is preferred anyway is not touched."""
        self.servers.priority = 1
        self.assertEqual(self.run_one().verdict, ReceiptVerdict.PROVEN)
        self.assertFalse([each for each in self.servers.log if "CONFIG" in each])

    def test_priority_is_not_seen(self) -> None:
        """If a Sentinel does not see the priority in time, nothing was held."""
        self.servers.shown_priority = 100
        self.assertIn("is not known to 10.0.0.11:26379, 10.0.0.12:26379, 10.0.0.13:26379", self.aborted())
        self.assertNotIn("10.0.0.2 CLIENT PAUSE 10000 WRITE", self.servers.log)

    def test_candidate_is_too_slow(self) -> None:
        """If it does not receive the rest within the permitted pause, the writes go on."""
        self.servers.replica_offset -= 1_000_000
        self.servers.receives = 1
        reason = self.aborted()
        self.assertIn("still lacks 99", reason)
        self.assertIn("--max-pause", reason)
        self.assertFalse([each for each in self.servers.log if "FAILOVER" in each])

    def test_order_is_refused(self) -> None:
        """The error of the Sentinel is the reason."""
        self.servers.order = ErrorLine(b"INPROG Failover already in progress")
        self.assertEqual(self.aborted(), "INPROG Failover already in progress")

    def test_never_promoted(self) -> None:
        """Once the order was given, the text warns that it may still be executed."""
        self.servers.promotes = False
        self.assertIn("the Sentinel may still do so", self.aborted())

    def test_sentinel_is_lost(self) -> None:
        """A Sentinel that cannot be connected to aborts before anything was done."""
        self.servers.down.add(Endpoint(SENTINELS[0], 26379))
        self.assertEqual(self.aborted(), "connection refused")
        self.assertEqual(self.servers.log, [])

    def test_released_before_the_order(self) -> None:
        """If the pause may have ended before it was extended, there is no order: writes may have been accepted."""

        def wait(command: str) -> None:
            if command == "CLIENT PAUSE 60000 WRITE":
                self.servers.now += 10.0

        self.servers.on_command = wait
        self.assertIn("before the pause was extended", self.aborted())
        self.assertFalse([each for each in self.servers.log if "FAILOVER" in each])

    def test_limits(self) -> None:
        """The pause without an order is shorter than the time after which Sentinels consider a master down."""
        self.assertEqual(limits_for(30_000, 2000), SwitchoverLimits(2000, 10_000))
        self.assertEqual(limits_for(1000, 2000), SwitchoverLimits(600, 800))

    def test_interrupted(self) -> None:
        """An interrupt before the order undoes everything."""

        def interrupt(command: str) -> None:
            if command.startswith("SENTINEL FAILOVER"):
                raise KeyboardInterrupt

        self.servers.on_command = interrupt
        switchover = self.switchover()
        self.assertTrue(switchover.can_abort)
        self.assertRaises(KeyboardInterrupt, switchover.run)
        self.assertFalse(self.servers.paused)
        self.assertEqual(self.servers.priority, 100)

    def test_old_master_is_lost(self) -> None:
        """If the old master ends behind the order, the receipt proves nothing, and a line states when writes go on."""

        def end(command: str) -> None:
            if command.startswith("SENTINEL FAILOVER"):
                self.servers.down.add(OLD)

        self.servers.on_command = end
        receipt = self.run_one()
        self.assertEqual(receipt.verdict, ReceiptVerdict.UNPROVEN)
        self.assertIsNone(receipt.old.offset_final)
        self.assertTrue(any("could not be demoted" in each for each in self.lines))
        self.assertEqual(self.servers.priority, 100)

    def test_leaked_writes(self) -> None:
        """Bytes that the old master accepted behind the fork are counted."""
        self.servers.leaks = 183
        receipt = self.run_one()
        self.assertEqual((receipt.verdict, receipt.lost_bytes), (ReceiptVerdict.LOST, 183))

    def test_a_ping_is_no_write(self) -> None:
        """The 14 bytes of a PING to the replicas are not reported as lost."""
        self.servers.leaks = 14
        self.assertEqual(self.run_one().verdict, ReceiptVerdict.UNPROVEN)


class RecordedTests(SynchronousTestCase):
    """What is changed at servers is recorded before, and restored after, also by another process."""

    def setUp(self) -> None:
        self.servers = FakeServers()
        self.log = ChangeLog(Path(self.mktemp()) / "txsentinel" / "changed.json")
        self.seen: list[tuple[str, ...]] = []
        self.servers.on_command = self.watch

    def watch(self, command: str) -> None:
        """Note what is recorded when a setting is changed."""
        if command.startswith("CONFIG SET"):
            self.seen.append(tuple(f"{each.name} {each.value} {each.former}" for each in self.log.read()))

    def run_one(self, rejects: bool = False, scripts_write: bool = False) -> Receipt:
        """Run a switchover."""
        settings, servers = ConnectionSettings(), self.servers
        return Switchover(
            servers.plan(),
            settings,
            settings,
            SwitchoverLimits(),
            lambda after_ms, text: None,
            servers.connect,
            servers.clock,
            servers.read,
            self.log,
            RejectedWrites(OLD, self.log, scripts_write) if rejects else None,
        ).run()

    def restore(self) -> list[tuple[bool, str]]:
        """Restore what was left."""
        found = restore_settings(self.log, ConnectionSettings(), self.servers.connect)
        return [(each.done, each.text) for each in found]

    def left(self, *changes: tuple[Endpoint, str, str, str], process: int = 0) -> None:
        """Record changes of a process that has ended, or of a given one."""
        ended = process or int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout)
        for server, name, value, former in changes:
            self.log.add(ChangedSetting(server, name, value, former, 1_800_000_000_000, ended))

    def test_priority(self) -> None:
        """The priority is recorded, restored, and written to the file, which the promotion wrote with the other one."""
        self.run_one()
        self.assertEqual(self.seen, [("replica-priority 1 100",)] * 2)
        self.assertEqual(self.log.read(), ())
        self.assertFalse(self.log.path.exists())
        self.assertEqual([each for each in self.servers.log if "REWRITE" in each], [f"{NEW.host} CONFIG REWRITE"])

    def test_reject(self) -> None:
        """Writes are rejected instead of held; the values are restored behind SLAVEOF, and nothing is paused."""
        receipt = self.run_one(rejects=True)
        self.assertEqual((receipt.verdict, receipt.fence.kind), (ReceiptVerdict.PROVEN, "min-replicas-to-write"))
        self.assertEqual(self.servers.settings, {"min-replicas-to-write": "1", "min-replicas-max-lag": "0"})
        self.assertEqual([each for each in self.servers.log if "PAUSE" in each], [])
        old = [each.partition(" ")[2] for each in self.servers.log if each.startswith(OLD.host)]
        first = old.index("CONFIG SET min-replicas-to-write 999999")
        self.assertEqual(old[first + 1], "CONFIG SET min-replicas-max-lag 10")
        self.assertLess(old.index(f"SLAVEOF {NEW.host} 6379"), old.index("CONFIG SET min-replicas-to-write 1"))
        expected = ("min-replicas-to-write 999999 1", "min-replicas-max-lag 10 0")
        self.assertIn(expected, [each[-2:] for each in self.seen])
        self.assertEqual(self.log.read(), ())

    def test_gaps(self) -> None:
        """Bytes behind the fork are lost writes if scripts could write, or another client changed the setting."""
        self.servers.leaks = 183
        self.assertEqual(self.run_one(rejects=True).verdict, ReceiptVerdict.UNPROVEN)
        for scripts_write in (True, False):
            self.setUp()
            self.servers.leaks = 183
            if not scripts_write:
                self.servers.on_command = self.spoil
            receipt = self.run_one(rejects=True, scripts_write=scripts_write)
            self.assertEqual((receipt.verdict, receipt.lost_bytes), (ReceiptVerdict.LOST, 183))

    def spoil(self, command: str) -> None:
        """Change the setting as another client when the failover is ordered."""
        if command.startswith("SENTINEL FAILOVER"):
            self.servers.settings["min-replicas-to-write"] = "0"

    def test_aborted(self) -> None:
        """If the order is refused, the former values are restored, and the records removed."""
        self.servers.order = ErrorLine(b"INPROG")
        self.assertRaises(SwitchoverAborted, self.run_one, rejects=True)
        self.assertEqual(self.servers.settings, {"min-replicas-to-write": "1", "min-replicas-max-lag": "0"})
        self.assertEqual((self.servers.priority, self.log.read()), (100, ()))

    def test_refusals(self) -> None:
        """Nothing is rejected if that is so already, or the former value cannot be recorded."""
        self.servers.settings["min-replicas-to-write"] = "999999"
        error = self.assertRaises(SwitchoverAborted, self.run_one, rejects=True)
        self.assertIn("is 999999 already", str(error))
        self.servers.settings["min-replicas-to-write"] = "1"
        self.servers.on_command = lambda command: None
        self.log.path.parent.mkdir(parents=True, exist_ok=True)
        self.log.path.write_text("no JSON")
        error = self.assertRaises(SwitchoverAborted, self.run_one, rejects=True)
        self.assertIn("cannot be recorded", str(error))
        self.assertEqual(self.servers.settings["min-replicas-to-write"], "1")

    def test_left(self) -> None:
        """What a killed process has left is restored once; what was changed since stays."""
        self.left((NEW, "replica-priority", "1", "100"), (OLD, "min-replicas-to-write", "999999", "2"))
        self.servers.priority = 1
        self.servers.settings["min-replicas-to-write"] = "999999"
        self.assertEqual(
            self.restore(),
            [
                (True, f"replica-priority of {NEW} is set back from 1 to 100"),
                (True, f"min-replicas-to-write of {OLD} is set back from 999999 to 2"),
            ],
        )
        self.assertEqual((self.servers.priority, self.servers.settings["min-replicas-to-write"]), (100, "2"))
        self.assertEqual(self.restore(), [])
        self.left((NEW, "replica-priority", "1", "100"))
        self.servers.priority = 50
        self.assertEqual(self.restore(), [(True, f"replica-priority of {NEW} is 50 already")])
        self.assertEqual(self.servers.priority, 50)

    def test_not_now(self) -> None:
        """A record stays while its process runs, and while the server cannot be reached."""
        self.left((NEW, "replica-priority", "1", "100"), process=os.getppid())
        self.assertEqual([done for done, _ in self.restore()], [False])
        self.left((NEW, "replica-priority", "1", "100"))
        self.servers.down.add(NEW)
        ((done, text),) = self.restore()
        self.assertEqual((done, len(self.log.read())), (False, 1))
        self.assertIn("connection refused", text)


class JudgementTests(SynchronousTestCase):
    """What the figures prove."""

    OLD = OldMaster(OLD, REPLID, 1000, 1000)
    NEW = NewMaster(NEW, REPLID, 1000)
    FENCE = Fence("client-pause-write", Instant(0), 10, Instant(10_000))

    def verdict(
        self, old: OldMaster = OLD, new: NewMaster = NEW, demoted_at: int | None = 10
    ) -> tuple[str, int | None]:
        """Return verdict and lost bytes."""
        found = judge(old, new, self.FENCE, None if demoted_at is None else Instant(demoted_at))
        return found.verdict.value, found.lost_bytes

    def test_verdicts(self) -> None:
        """Proven needs the same history, nothing beyond the fork, and a fence that held."""
        self.assertEqual(self.verdict(), ("proven", None))
        self.assertEqual(
            self.verdict(replace(self.OLD, offset_final=1001), replace(self.NEW, fork_offset=1001)), ("proven", None)
        )
        self.assertEqual(self.verdict(replace(self.OLD, offset_final=1001)), ("lost", 1))
        self.assertEqual(self.verdict(new=replace(self.NEW, fork_offset=900)), ("lost", 100))
        self.assertEqual(self.verdict(replace(self.OLD, offset_final=1014), demoted_at=10_000), ("lost", 14))
        self.assertEqual(self.verdict(demoted_at=10_000), ("unproven", None))
        self.assertEqual(self.verdict(demoted_at=None), ("unproven", None))
        self.assertEqual(self.verdict(replace(self.OLD, offset_final=None)), ("unproven", None))
        self.assertEqual(self.verdict(new=replace(self.NEW, replid2="7" * 40)), ("unproven", None))
        self.assertEqual(self.verdict(new=replace(self.NEW, replid2=None)), ("unproven", None))

    def test_rejected(self) -> None:
        """While writes are rejected, expired keys are deleted; with a gap, such bytes may be writes."""
        old = replace(self.OLD, offset_final=1100)
        for kind, expected in ((REJECTED, ("unproven", None)), (REJECTED_WITH_GAPS, ("lost", 100))):
            fence = replace(self.FENCE, kind=kind)
            found = judge(old, self.NEW, fence, Instant(10))
            self.assertEqual((found.verdict.value, found.lost_bytes), expected)
            self.assertEqual(judge(self.OLD, self.NEW, fence, Instant(10)).verdict, ReceiptVerdict.PROVEN)
            self.assertEqual(judge(old, self.NEW, fence, Instant(10_000)).verdict, ReceiptVerdict.LOST)

    def test_ulid(self) -> None:
        """26 digits, ordered by time; the example is that of the specification of ULID."""
        self.assertEqual(new_ulid(1469918176385, bytes(10)), "01ARYZ6S41" + "0" * 16)
        self.assertEqual(new_ulid(0, b"\xff" * 10), "0" * 10 + "Z" * 16)
        self.assertLess(new_ulid(1), new_ulid(2))
        self.assertNotEqual(new_ulid(5), new_ulid(5))


class ConditionTests(SynchronousTestCase):
    """The conditions of a switchover."""

    def problems(self, *sentinels: object, candidate: Endpoint | None = NEW) -> list[str]:
        """Return what the reports have against it."""
        return list(group_problems(agreement_on(fleet(*sentinels), NAME), candidate))  # type: ignore[arg-type]

    def test_sound(self) -> None:
        """Nothing."""
        self.assertEqual(self.problems(), [])

    def test_group(self) -> None:
        """All reasons are given, not only the first."""
        odd = [
            sentinel(SENTINELS[0], flags="master,failover_in_progress"),
            sentinel(SENTINELS[1], ip="10.0.0.9", config_epoch="6"),
            unreachable(SENTINELS[2]),
        ]
        found = "\n".join(self.problems(*odd))
        for reason in (
            "only 1 of 3 Sentinels answer with 10.0.0.2:6379",
            "only 1 of 3 Sentinels consider the master up, 2 needed",
            "10.0.0.12:26379 has another address: 10.0.0.9:6379",
            "10.0.0.11:26379 has a failover in progress",
        ):
            self.assertIn(reason, found)

    def test_candidate(self) -> None:
        """It must be known and fit at every Sentinel, alone with the best priority, and not the master."""
        self.assertEqual(self.problems(candidate=None), ["no replica may be promoted"])
        self.assertEqual(self.problems(candidate=OLD), [f"{MASTER}:6379 is the master already"])
        self.assertIn(
            "10.0.0.11:26379 does not know the replica 10.9.9.9:6379",
            self.problems(candidate=Endpoint("10.9.9.9", 6379)),
        )
        zero = [replica("10.0.0.1", slave_priority="0"), replica("10.0.0.3", slave_priority="1")]
        found = self.problems(*(sentinel(each, master_report(each, None, zero)) for each in SENTINELS))
        self.assertIn("10.0.0.11:26379 would not promote 10.0.0.1:6379: priority 0", found)
        self.assertIn("10.0.0.3:6379 has priority 1, too; raise it for the switchover", found)

    def test_servers(self) -> None:
        """Roles, versions, histories and the lag are compared."""
        master = ServerReport(
            {"role": "master", "redis_version": "7.0.15", "master_replid": "a", "master_repl_offset": "100"}
        )
        copy = ServerReport(
            {"role": "slave", "master_link_status": "up", "master_replid": "a", "slave_repl_offset": "90"}
        )
        self.assertEqual(list(server_problems(master, copy, 10)), [])
        self.assertIn("10 bytes behind, 9 are allowed", next(server_problems(master, copy, 9)))
        other = ServerReport({"role": "master", "master_replid": "b", "master_repl_offset": "90"})
        old = ServerReport({"role": "slave", "redis_version": "6.0.9", "master_replid": "a"})
        self.assertEqual(
            list(server_problems(old, other, 10)),
            [
                "the master reports the role slave",
                "writes can be held from version 6.2 on; this is redis 6.0.9; --method reject is possible",
                "the candidate reports the role master",
                "the candidate has another replication ID: b, the master a",
            ],
        )

    def test_leader(self) -> None:
        """One of ours is preferred, one in TILT is not used."""
        ours = sentinel(SENTINELS[2], kind="txsentinel", version="0.2.0")
        agreement = agreement_on(fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1]), ours), NAME)
        self.assertEqual(choose_leader(agreement), ours)
        assert ours.identity is not None
        tilted = replace(ours, identity=replace(ours.identity, server_fields={"sentinel_tilt": "1"}))
        agreement = agreement_on(fleet(tilted), NAME)
        self.assertIsNone(choose_leader(agreement))
