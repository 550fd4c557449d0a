"""The parsers of the invariant checker for the wire and the disk."""

from __future__ import annotations

from errno import EIO

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.durable import read_persisted
from txsentinel.sim.files import SimFiles
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.values import Failed
from txsentinel.sim.wiretap import Frames

STREAM = b"+PONG\r\n-ERR no\r\n:-3\r\n$5\r\na\r\nbc\r\n$-1\r\n*-1\r\n*3\r\n:1\r\n$1\r\n*\r\n*1\r\n$0\r\n\r\n"
VALUES = [b"PONG", Failed(b"ERR no"), -3, b"a\r\nbc", None, None, [1, b"*", [b""]]]


class FramesTests(SynchronousTestCase):
    """Parsing of a stream."""

    def test_whole(self) -> None:
        """Every type of RESP2 is parsed."""
        self.assertEqual(Frames().feed(STREAM), VALUES)

    def test_chunking_is_invisible(self) -> None:
        """A stream that is cut in two at any place gives the same values."""
        for cut in range(len(STREAM)):
            frames = Frames()
            self.assertEqual(frames.feed(STREAM[:cut]) + frames.feed(STREAM[cut:]), VALUES, cut)

    def test_repetition(self) -> None:
        """A cached value is parsed the same again, also behind half a value."""
        frames = Frames()
        self.assertEqual([frames.feed(b"+A\r\n"), frames.feed(b"+A\r\n")], [[b"A"], [b"A"]])
        self.assertEqual([frames.feed(b"$3\r\n"), frames.feed(b"+A\r\n")], [[], []])


class SavedStateTests(SynchronousTestCase):
    """Parsing of a Sentinel's file."""

    def test_state(self) -> None:
        """Epochs, addresses, peers and options are found; names are resolved to their IP; the rest is skipped."""
        contents = b"""port 26379
sentinel myid abc
sentinel monitor m host.example 6379 2
sentinel config-epoch m 3
sentinel leader-epoch m 4
sentinel known-replica m 10.0.0.2 6379
sentinel known-sentinel m 10.0.1.2 26379 def
sentinel failover-timeout m 5000
sentinel current-epoch 5
"""
        found = read_persisted(contents, {"host.example": "10.0.0.1"})
        master = found.masters["m"]
        self.assertEqual((found.my_id, found.current_epoch), ("abc", 5))
        self.assertEqual((master.place, master.quorum), (("10.0.0.1", 6379), 2))
        self.assertEqual((master.config_epoch, master.leader_epoch, master.peers), (3, 4, {"def"}))
        self.assertEqual(master.options["failover-timeout"], "5000")


class VisibleFailureTests(SynchronousTestCase):
    """A replacement that fails after its rename."""

    def disk(self, seed: int) -> tuple[Simulation, SimHost, SimFiles]:
        """Return a disk with contents ``old`` whose replacement by ``new`` failed after the rename."""
        simulation = Simulation(seed)
        host = SimHost(simulation, SimNetwork(simulation), "host", "10.0.0.1")
        host.start()
        files = host.files
        files.contents["/f"] = b"old"
        files.fail_with, files.visible_failure = OSError(EIO, "Input/output error"), True
        failed = files.replace("/f", b"new")
        simulation.run(1.0)
        self.failureResultOf(failed, OSError)
        self.assertTrue(files.failing)
        return simulation, host, files

    def test_new_contents_are_read(self) -> None:
        """The new contents can be read although the write failed."""
        _, _, files = self.disk(1)
        self.assertEqual(files.read("/f"), b"new")

    def test_a_crash_may_undo_it(self) -> None:
        """After a power failure either of the two is there."""
        left = set()
        for seed in range(12):
            _, host, files = self.disk(seed)
            host.crash()
            left.add(files.read("/f"))
        self.assertEqual(left, {b"old", b"new"})

    def test_a_later_success_is_final(self) -> None:
        """A later successful replacement is final."""
        for seed in range(12):
            simulation, host, files = self.disk(seed)
            files.fail_with = None
            done = files.replace("/f", b"newest")
            simulation.run(1.0)
            self.successResultOf(done)
            self.assertFalse(files.failing)
            host.crash()
            self.assertEqual(files.read("/f"), b"newest")
