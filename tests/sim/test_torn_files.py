"""Crashes during a write, and disks that cannot be read: the remaining files, and that Sentinels handle them."""

from __future__ import annotations

from errno import EIO
from functools import partial
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.faults import FAULT_TYPES, Fault, FaultInjector
from txsentinel.sim.files import GARBAGE, SimFiles
from txsentinel.sim.fleet import CONFIG_PATH, Fleet, SimSentinel
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.simulation import Simulation

NEW = b"sentinel myid abc\nsentinel current-epoch 7\n"


class TemporaryFileTests(SynchronousTestCase):
    """Files on a simulated disk after a crash."""

    def torn(self, seed: int) -> SimFiles:
        """Return a disk whose power failed while its file was replaced."""
        simulation = Simulation(seed)
        host = SimHost(simulation, SimNetwork(simulation), "host", "10.0.0.1")
        host.start()
        files = host.files
        files.contents["/f"] = b"old"
        files.interrupt = host.crash
        done = files.replace("/f", NEW)
        simulation.run(1.0)
        self.assertNoResult(done)
        self.assertIsNone(files.interrupt)
        return files

    def test_the_file_is_whole(self) -> None:
        """The file is the old one or the new one, wherever the crash falls."""
        self.assertEqual({self.torn(seed).read("/f") for seed in range(20)}, {b"old", NEW})

    def test_what_stays_behind(self) -> None:
        """
        Unless the file was replaced, a temporary one remains: any part of the beginning, followed by random bytes.
        """
        lengths, endings = set(), set()
        for seed in range(200):
            files = self.torn(seed)
            self.assertEqual(len(files.leftovers), files.read("/f") == b"old")
            for path in files.leftovers:
                self.assertRegex(path, r"\A/f\.[a-z0-9_]{6}\Z")
                stray = files.read(path)
                behind = next(each for each in sorted(GARBAGE, key=len, reverse=True) if stray.endswith(each))
                endings.add(behind)
                written = stray.removesuffix(behind)
                self.assertTrue(NEW.startswith(written), stray)
                lengths.add(len(written))
        self.assertEqual(endings, set(GARBAGE))
        self.assertGreater(len(lengths), len(NEW) // 2)

    def test_unreadable(self) -> None:
        """A disk that cannot be read reports the error, and works again afterwards."""
        simulation = Simulation(1)
        files = SimHost(simulation, SimNetwork(simulation), "host", "10.0.0.1").files
        files.contents["/f"] = b"old"
        files.unreadable = OSError(EIO, "Input/output error")
        self.assertEqual(self.assertRaises(OSError, files.read, "/f").errno, EIO)
        files.unreadable = None
        self.assertEqual(files.read("/f"), b"old")


class FleetTests(SynchronousTestCase):
    """Whole fleets on such disks."""

    def setUp(self) -> None:
        self.fleet = Fleet(1)
        self.checker = InvariantChecker(self.fleet)
        self.fleet.start()
        self.assertTrue(self.fleet.converge(), self.fleet.disagreements())
        self.ids = {sentinel.name: sentinel.alive.core.options.my_id for sentinel in self.fleet.sentinels}

    def selects_first(self, rng: Random) -> bool:
        """Whether these random numbers select the first Sentinel, and make it write as soon as it can."""
        return rng.choice(self.fleet.sentinels).number == 1 and rng.random() < 0.5

    def inject(self, kind: str, lasts: float) -> SimSentinel:
        """Inject a fault into the first Sentinel, and return the Sentinel while it is down."""
        rng = next(rng for rng in range(100) if self.selects_first(Random(rng)))
        FaultInjector(self.fleet, [Fault(0.0, kind, lasts, rng)])
        target = self.fleet.sentinels[0]
        self.assertTrue(self.fleet.simulation.run_until(lambda: not target.host.running, lasts))
        return target

    def assert_stable(self) -> None:
        """Assert that all agree again, the Sentinel has its ID, and no invariant was violated."""
        self.assertTrue(self.fleet.converge(60.0), self.fleet.disagreements())
        now = {sentinel.name: sentinel.alive.core.options.my_id for sentinel in self.fleet.sentinels}
        self.assertEqual(now, self.ids)
        self.assertEqual([str(violation) for violation in self.checker.violations], [])
        self.assertEqual(self.fleet.simulation.failures, [])

    def test_torn_writes(self) -> None:
        """A Sentinel whose writes are torn repeatedly restarts with its state; temporary files do not matter."""
        client = self.fleet.clients[0]

        def serves_more_than(served: int) -> bool:
            return client.served > served

        for _ in range(5):
            target = self.inject("torn-write", 3.0)
            self.fleet.run(4.0)
            self.assert_stable()
            # The peer of a connection that was lost silently is served again once it has given it up.
            served = client.served
            self.assertTrue(self.fleet.simulation.run_until(partial(serves_more_than, served), 40.0))
        files = target.host.files
        self.assertTrue(files.leftovers)
        self.assertEqual({CONFIG_PATH, *files.leftovers}, set(files.contents))

    def test_unreadable_file(self) -> None:
        """Each start ends with status 1 and an error that names the file, until the disk can be read again."""
        target = self.inject("unreadable-disk", 5.0)
        before = len(target.host.exits)
        self.fleet.run(4.0)
        self.assertEqual(target.host.exits[before:], [1, 1, 1])
        output = [line.text for line in self.fleet.lines if line.who == target.name][-1]
        self.assertEqual(output, "Fatal error, can't open config file '/sentinel.conf': Input/output error")
        self.fleet.run(2.0)
        self.assert_stable()

    def test_kinds_are_drawn(self) -> None:
        """Random plans have both."""
        self.assertLess({"torn-write", "unreadable-disk"}, set(FAULT_TYPES))
