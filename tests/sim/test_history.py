"""The history of failovers in simulated fleets: files, crashes, failing disks, and records of several Sentinels."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.history import FailoverKind, FailoverRecord, LossVerdict, ObserverRole, Outcome
from txsentinel.model.history_json import decode_records
from txsentinel.model.history_merge import merge
from txsentinel.runtime import history
from txsentinel.runtime.history import FILE_NAME, MAX_BYTES_READ, FailoverHistory
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.groups import Shape
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.run import Run

DIRECTORY = "/state"
PATH = f"{DIRECTORY}/{FILE_NAME}"
SHAPE = Shape(sentinels=3, masters=1, replicas=2, quorum=2, down_after=1_000, failover_timeout=3_000)


class HistoryTests(SynchronousTestCase):
    """One group under three Sentinels with disks."""

    def fleet(self, seed: int = 1, shape: Shape = SHAPE) -> Fleet:
        """Start a fleet that keeps its history on its disks."""
        fleet = Fleet(seed, shape)
        fleet.state_dir = DIRECTORY
        fleet.start()
        self.assertTrue(fleet.converge(30.0))
        return fleet

    def master(self, fleet: Fleet) -> SimRedis:
        """Return the running master."""
        return next(server for server in fleet.masters[0].servers if server.is_master and server.host.running)

    def kill_master(self, fleet: Fleet) -> None:
        """Kill the master, and wait until all Sentinels agree on another one."""
        dying = self.master(fleet)
        dying.host.kill()

        def moved() -> bool:
            views = {s.alive.core.master("m1").address.ip for s in fleet.sentinels if s.running}
            return len(views) == 1 and dying.host.ip not in views

        self.assertTrue(fleet.simulation.run_until(moved, 30.0))

    def on_disk(self, sentinel: SimSentinel) -> list[FailoverRecord]:
        """Return the records in the file of a Sentinel."""
        found, bad = decode_records(sentinel.host.files.contents.get(PATH, b""))
        self.assertEqual([], bad)
        return found

    def test_file(self) -> None:
        """Each Sentinel writes one record; they merge to one failover, in the same order of phases for all."""
        fleet = self.fleet()
        self.kill_master(fleet)
        fleet.run(2.0)
        records = [record for sentinel in fleet.sentinels for record in self.on_disk(sentinel)]
        self.assertEqual(3, len(records))
        (merged,) = merge(records)
        self.assertIs(ObserverRole.LEADER, merged.record.observer_role)
        self.assertEqual((FailoverKind.AUTOMATIC, Outcome.SWITCHED), (merged.record.kind, merged.record.outcome))
        self.assertEqual(2, len(merged.others))
        for sentinel in fleet.sentinels:
            self.assertEqual(self.on_disk(sentinel), list(sentinel.alive.history.records("m1", 9)))
            self.assertEqual((), sentinel.alive.history.records("m2", 9))
            self.assertEqual(1, sentinel.alive.history.total)
        # Events are published a moment later than they are recorded, at the same time for all observers.
        leader = next(s for s in fleet.sentinels if s.alive.core.options.my_id == merged.record.observer)
        times: dict[str, float] = {}
        for line in fleet.lines:
            if line.who == leader.name and "m1" in line.text:
                times.setdefault(line.text.split()[0], line.at)
        phases = {phase.phase: phase.at.unix_ms for phase in merged.record.phases}
        for phase, event in (("sdown", "+sdown"), ("odown", "+odown"), ("elected", "+elected-leader")):
            logged = times[event] - times["+sdown"]
            self.assertLess(abs(phases[phase] - phases["sdown"] - 1000 * logged), 50)

    def test_restart(self) -> None:
        """A process that starts again has the records of the one before it."""
        fleet = self.fleet()
        self.kill_master(fleet)
        fleet.run(2.0)
        sentinel = fleet.sentinels[0]
        before = sentinel.alive.history.records(None, 9)
        sentinel.host.kill()
        sentinel.host.restart()
        fleet.run(2.0)
        self.assertEqual(1, len(before))
        self.assertEqual(before, sentinel.alive.history.records(None, 9))

    def test_amended_after_a_restart(self) -> None:
        """What becomes known when the old master is back amends the record, also that of an earlier process."""
        fleet = self.fleet()
        dead = self.master(fleet)
        self.kill_master(fleet)
        fleet.run(2.0)
        restarted, other = fleet.sentinels[:2]
        (before,) = restarted.alive.history.records(None, 9)
        restarted.host.kill()
        restarted.host.restart()
        fleet.run(2.0)
        dead.host.restart()
        fleet.run(40.0)
        (amended,) = self.on_disk(restarted)
        (of_other,) = self.on_disk(other)
        self.assertIsNone(before.loss.from_offset)
        self.assertIsNotNone(amended.loss.from_offset)
        self.assertEqual(of_other.loss, amended.loss)
        self.assertEqual(replace(before, loss=amended.loss, clients_closed=amended.clients_closed), amended)
        self.assertEqual((amended,), restarted.alive.history.records(None, 9))

    def test_lines_that_are_none(self) -> None:
        """What is no record is skipped with the number of its line and the path; a huge line is not kept in memory."""
        fleet = self.fleet()
        self.kill_master(fleet)
        fleet.run(2.0)
        sentinel = fleet.sentinels[0]
        before = sentinel.alive.history.records(None, 9)
        files = sentinel.host.files
        files.contents[PATH] = b"{}\n" + b"x" * (MAX_BYTES_READ + 9) + b"\njunk\n" + files.contents[PATH]
        sentinel.host.kill()
        sentinel.host.restart()
        fleet.run(2.0)
        self.assertEqual(before, sentinel.alive.history.records(None, 9))
        lines = [line.text for line in fleet.lines if line.who == sentinel.name and "is no record" in line.text]
        self.assertEqual(1, len(lines), lines)
        wanted = f"Line 2 of {PATH} is no record of a failover and is ignored: longer than {MAX_BYTES_READ} bytes"
        self.assertIn(f"{wanted}, and 1 more line is not one either", lines[0])

    def test_crash_while_appending(self) -> None:
        """A process that dies at any point of the write leaves whole records, and later ones are whole, too."""
        torn = 0
        for seed in range(1, 13):
            fleet = self.fleet(seed)
            sentinel = fleet.sentinels[0]
            files = sentinel.host.files
            self.master(fleet).host.kill()
            self.assertTrue(fleet.simulation.run_until(files.is_appending, 30.0))
            sentinel.host.kill()
            left = files.contents.get(PATH, b"")
            torn += bool(left) and not left.endswith(b"\n")
            self.assertLessEqual(len(self.on_disk(sentinel)), 1)
            sentinel.host.restart()
            fleet.run(15.0)
            known = len(sentinel.alive.history.records(None, 9))
            self.kill_master(fleet)
            fleet.run(2.0)
            found, bad = decode_records(files.contents[PATH])
            self.assertEqual((known + 1, bool(left) and not left.endswith(b"\n")), (len(found), bool(bad)), seed)
        self.assertGreater(torn, 2)

    def test_failing_disk(self) -> None:
        """A file that cannot be written is logged once and counted; the failover and the Sentinel are not affected."""
        fleet = self.fleet()
        sentinel = fleet.sentinels[0]
        append, refused = sentinel.host.files.append, OSError(28, "No space left on device")

        def failing(path: str, lines: bytes, limit: int, files: int) -> Deferred[None]:
            return fail(refused)

        sentinel.host.files.append = failing  # type: ignore[method-assign]
        self.kill_master(fleet)
        fleet.run(3.0)
        lines = [
            line.text for line in fleet.lines if line.who == sentinel.name and "Cannot write a record" in line.text
        ]
        self.assertEqual(1, len(lines), lines)
        self.assertIn("No space left on device. It is kept in memory only", lines[0])
        self.assertEqual(1, sentinel.alive.history.write_failures)
        self.assertEqual(1, len(sentinel.alive.history.records("m1", 9)))
        sentinel.host.files.append = append  # type: ignore[method-assign]
        for server in fleet.masters[0].servers:
            if not server.host.running:
                server.host.restart()
        self.assertTrue(fleet.converge(60.0))
        fleet.run(10.0)
        lines = [line.text for line in fleet.lines if line.who == sentinel.name and "can be written to" in line.text]
        self.assertEqual(1, len(lines), lines)

    def test_without_directory(self) -> None:
        """Without a directory nothing is written, and the records are kept in memory."""
        fleet = Fleet(1, SHAPE)
        fleet.start()
        self.assertTrue(fleet.converge(30.0))
        self.kill_master(fleet)
        fleet.run(2.0)
        for sentinel in fleet.sentinels:
            self.assertNotIn(PATH, sentinel.host.files.contents)
            self.assertEqual(1, len(sentinel.alive.history.records("m1", 9)))

    def test_coordinated(self) -> None:
        """A hand-over loses nothing, which its record states after the old master follows."""
        fleet = self.fleet()
        fleet.run(5.0)
        core = fleet.sentinels[1].alive.core
        core.administration.failover("m1", fleet.sentinels[1].host.now(), coordinated=True)
        fleet.sentinels[1].alive.executor.drain()
        fleet.run(30.0)
        (record,) = self.on_disk(fleet.sentinels[1])
        self.assertEqual((FailoverKind.COORDINATED, "operator"), (record.kind, record.cause))
        self.assertIs(LossVerdict.NONE, record.loss.verdict)
        self.assertIsNotNone(record.clients_closed)

    def test_acknowledged(self) -> None:
        """An acknowledgement is kept in the file, also when the record is amended afterwards."""
        fleet = self.fleet()
        dead = self.master(fleet)
        self.kill_master(fleet)
        fleet.run(2.0)
        sentinel = fleet.sentinels[0]
        (record,) = self.on_disk(sentinel)
        self.assertTrue(sentinel.alive.history.acknowledge(record.record_id, "alice", "disk"))
        self.assertFalse(sentinel.alive.history.acknowledge("01JE", "alice", "disk"))
        dead.host.restart()
        fleet.run(40.0)
        (amended,) = self.on_disk(sentinel)
        self.assertIsNotNone(amended.loss.from_offset)
        assert amended.ack is not None
        self.assertEqual(("alice", "disk"), (amended.ack.by, amended.ack.comment))

    def test_mass_failure(self) -> None:
        """While many masters are failed over together no records are made; then each master has one."""
        fleet = self.fleet(shape=replace(SHAPE, masters=6, mass_failure=3))
        for group in fleet.masters:
            next(server for server in group.servers if server.is_master).host.kill()
        fleet.run(6.0)
        for sentinel in fleet.sentinels:
            self.assertEqual(0, sentinel.alive.history.total)
            names = [each.name for each in fleet.masters]
            self.assertTrue(all(sentinel.alive.core.journal.is_durable(name) for name in names))
        fleet.run(12.0)
        for sentinel in fleet.sentinels:
            made = sentinel.alive.history.records(None, 9)
            self.assertEqual({f"m{number}" for number in range(1, 7)}, {record.master for record in made})
            self.assertEqual({Outcome.SWITCHED}, {record.outcome for record in made})

    def test_stop(self) -> None:
        """A process that is stopped in an orderly way writes what it has recorded before it ends."""
        fleet = self.fleet()
        self.kill_master(fleet)
        stopped = [sentinel.alive.stopService() for sentinel in fleet.sentinels]
        fleet.run(1.0)
        for sentinel, done in zip(fleet.sentinels, stopped, strict=True):
            self.successResultOf(done)
            self.assertEqual(1, len(self.on_disk(sentinel)))

    def test_stop_with_a_stuck_disk(self) -> None:
        """A disk that hangs delays the end of a process by two seconds at most."""
        fleet = self.fleet()
        sentinel = fleet.sentinels[0]
        self.master(fleet).host.kill()
        self.assertTrue(fleet.simulation.run_until(sentinel.host.files.is_appending, 30.0))
        sentinel.host.files.stick()
        stopped = sentinel.alive.stopService()
        fleet.run(1.0)
        self.assertNoResult(stopped)
        fleet.run(1.5)
        self.successResultOf(stopped)

    def test_limits(self) -> None:
        """No more than a number of records is kept in memory, and the latest ones of a file are read."""
        self.patch(history, "MAX_KEPT", 2)
        fleet = self.fleet()
        for _ in range(3):
            self.kill_master(fleet)
            for server in fleet.masters[0].servers:
                if not server.host.running:
                    server.host.restart()
            self.assertTrue(fleet.converge(60.0))
            fleet.run(8.0)
        for sentinel in fleet.sentinels:
            kept = sentinel.alive.history.records(None, 9)
            self.assertEqual(2, len(kept))
            self.assertEqual(3, len(self.on_disk(sentinel)))
            self.assertGreater(kept[0].epoch, kept[1].epoch)
            sentinel.host.kill()
            sentinel.host.restart()
            fleet.run(2.0)
            self.assertEqual(kept, sentinel.alive.history.records(None, 9))


class InvariantTests(SynchronousTestCase):
    """The checker of the invariant ``history``."""

    def test_missing_record(self) -> None:
        """A Sentinel that makes no records is found."""
        self.patch(FailoverHistory, "keep", lambda self, record: None)
        outcome = Run(5, 10.0, []).all()
        self.assertTrue(any(what.startswith("history at ") for what in outcome.wrong), outcome.wrong)

    def test_wrong_outcome(self) -> None:
        """A record with another outcome is found."""
        keep = FailoverHistory.keep

        def changed(self: FailoverHistory, record: FailoverRecord) -> None:
            keep(self, replace(record, outcome=Outcome.CANCELLED))

        self.patch(FailoverHistory, "keep", changed)
        outcome = Run(5, 10.0, []).all()
        self.assertTrue(any(what.startswith("history at ") for what in outcome.wrong), outcome.wrong)
