"""Group commit with a disk that the test controls."""

from __future__ import annotations

from time import process_time
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from tests.config.state import FakeCore, FakeHost, add_peer, add_replica, address, make_master
from txsentinel.config import store as store_module
from txsentinel.config.configuration import load
from txsentinel.config.directives import classify
from txsentinel.config.document import MARKER, ConfigDocument, Line
from txsentinel.config.rendering import master_lines
from txsentinel.config.store import ConfigStore
from txsentinel.config.write_attempts import FIRST_RETRY, LAST_RETRY, PROBE_PERIOD, STOP_LIMIT
from txsentinel.core.instances import Master
from txsentinel.interfaces import IHost


class StoreTests(SynchronousTestCase):
    """Many changes need one write; writes never overlap; a generation is reported only when it is durable."""

    def setUp(self) -> None:
        """Set up a Sentinel with one master and an empty file."""
        self.host = FakeHost()
        self.files = self.host.files
        self.core = FakeCore()
        self.master = self.core.add(make_master("m"))
        self.durable: list[int] = []
        self.failures: list[tuple[int, int | None]] = []
        self.store = self.make_store()

    def make_store(self, text: bytes = b"") -> ConfigStore:
        """Return a store for a file with ``text``."""
        return ConfigStore(
            cast(IHost, self.host),
            "/s.conf",
            ConfigDocument(text, classify),
            self.core,
            self.durable.append,
            lambda generation, error: self.failures.append((generation, error.errno)),
        )

    def change(self, generation: int, *names: str | None) -> None:
        """Record a change like the executor."""
        self.store.note_dirty(set(names or ("m",)))
        self.store.commit_soon(generation)

    def turn(self, seconds: float = 0.0) -> None:
        """Advance the time."""
        self.host.reactor.advance(seconds)

    def test_first_write(self) -> None:
        """The first write has everything, whatever was recorded, and begins in the next turn."""
        self.change(1)
        self.assertEqual(self.files.writes, [])
        self.turn()
        self.assertEqual(self.files.writes[0][0], "/s.conf")
        self.assertEqual(self.durable, [])
        self.assertEqual(
            self.files.done().splitlines(),
            [
                MARKER,
                f"sentinel myid {'f' * 40}",
                "sentinel monitor m 10.0.0.1 6379 2",
                "sentinel config-epoch m 0",
                "sentinel leader-epoch m 0",
                "sentinel current-epoch 0",
            ],
        )
        self.assertEqual((self.durable, self.store.durable, self.store.failing), ([1], 1, False))
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_group_commit(self) -> None:
        """All changes of a turn share a write; those during a write share the next one."""
        for generation in (1, 2, 3):
            self.change(generation)
        self.turn()
        for generation in (4, 5):
            self.master.leader_epoch = generation
            self.change(generation)
            self.turn(1)
        self.assertEqual(self.files.pending, 1)
        self.files.done()
        self.assertEqual(self.durable, [3])
        self.turn()
        self.assertEqual(self.files.pending, 1)
        self.assertIn("leader-epoch m 5\n", self.files.done())
        self.assertEqual(self.durable, [3, 5])
        self.turn(10)
        self.assertEqual(len(self.files.writes), 2)

    def test_later_changes_are_not_reported(self) -> None:
        """A change after the contents were rendered waits for the next write."""
        self.change(1)
        self.turn()
        self.master.leader_epoch = 9
        self.change(2)
        self.assertNotIn("leader-epoch m 9", self.files.done())
        self.assertEqual(self.durable, [1])

    def test_identical(self) -> None:
        """Contents that are durable already are not written again, and their generation is durable at once."""
        self.core.add(make_master("other"))
        self.change(1)
        self.turn()
        self.files.done()
        self.change(2, "m")
        self.assertEqual(self.durable, [1], "not from within the call")
        self.turn()
        self.assertEqual((len(self.files.writes), self.durable), (1, [1, 2]))

    def test_file_as_read_may_not_be_durable(self) -> None:
        """The contents read at start may not be durable: the first write takes place even if it changes nothing."""
        self.change(1)
        self.turn()
        text = self.files.done().encode()
        self.store = self.make_store(text)
        self.change(2)
        self.turn()
        self.assertEqual(self.files.done().encode(), text)

    def test_flush(self) -> None:
        """When everything is recorded at once the file is written, changed or not, as it may have been deleted."""
        self.core.add(make_master("other"))
        self.change(1)
        self.turn()
        self.files.done()
        self.change(4, None, "m", "other")
        self.turn()
        self.assertEqual(self.files.pending, 1)
        self.files.done()
        self.assertEqual(self.durable, [1, 4])

    def test_failure_and_recovery(self) -> None:
        """A failing write is repeated with growing delays until it succeeds."""
        self.change(1)
        self.turn()
        waits = []
        for _ in range(8):
            self.files.fail()
            self.assertTrue(self.store.failing)
            (retry,) = self.host.reactor.getDelayedCalls()
            waits.append(round(retry.getTime() - self.host.reactor.seconds(), 3))
            self.turn(waits[-1])
        self.assertEqual(waits, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
        self.assertEqual(self.failures, [(1, 28)] * 8)
        self.assertEqual(self.durable, [])
        self.files.done()
        self.assertEqual((self.durable, self.store.failing), ([1], False))
        self.core.current_epoch = 1
        self.change(2, None)
        self.turn()
        self.files.fail()
        (retry,) = self.host.reactor.getDelayedCalls()
        self.assertEqual(round(retry.getTime() - self.host.reactor.seconds(), 3), 0.1, "the delay starts anew")

    def test_change_advances_the_retry(self) -> None:
        """A change while the disk fails is answered within 100 ms."""
        self.change(1)
        self.turn()
        for wait in (0.1, 0.2, 0.4, 0.8, 1.6):
            self.files.fail()
            self.turn(wait)
        self.files.fail()
        self.turn(0.05)
        self.change(2)
        self.turn(0.04)
        self.assertEqual(self.files.pending, 0)
        self.turn(0.02)
        self.files.fail()
        self.assertEqual(self.failures[-1], (2, 28))

    def test_failed_changes_are_kept(self) -> None:
        """A change whose write failed is in the next write, with its generation."""
        self.change(1)
        self.turn()
        self.files.done()
        self.master.leader_epoch = 3
        self.change(2)
        self.turn()
        self.files.fail()
        self.turn(0.1)
        self.assertIn("leader-epoch m 3\n", self.files.done())
        self.assertEqual(self.durable, [1, 2])

    def test_bug_stops_the_process(self) -> None:
        """An error that is no OSError is a bug, and the process must end."""
        self.change(1)
        self.turn()
        self.files.fail(ZeroDivisionError())
        self.assertEqual([failure.type for failure, _ in self.host.stopped], [ZeroDivisionError])

    def test_rendering_bug_stops_the_process(self) -> None:
        """So is a state that cannot be rendered."""
        self.master.options.renamed_commands["CONFIG"] = None  # type: ignore[assignment]
        self.change(1)
        self.turn()
        ((failure, _),) = self.host.stopped
        self.assertTrue(failure.check(AttributeError, TypeError), failure)  # the latter where it is compiled

    def test_removed_and_unknown_masters(self) -> None:
        """Lines of masters that are not monitored are removed by the next write; comments stay."""
        self.core.add(make_master("b"))
        self.store = self.make_store(
            b"# gone\nsentinel monitor gone 1.1.1.1 1 1\n# m\nsentinel monitor m 1.1.1.1 1 1\n"
        )
        self.change(1)
        self.turn()
        text = self.files.done()
        self.assertTrue(text.startswith("# gone\n# m\nsentinel monitor m 10.0.0.1 6379 2\n\n# Generated"), text)
        del self.core.registry.masters["m"]
        self.change(2)
        self.turn()
        text = self.files.done()
        self.assertTrue(text.startswith("# gone\n# m\n\n# Generated"), text)
        self.assertIn("sentinel monitor b", text)
        self.assertNotIn(" m ", text)

    def test_hostnames_concern_all(self) -> None:
        """When announce-hostnames is set, the lines of all masters are rendered again."""
        self.master.address = address("redis.example", 1, "10.0.0.1")
        self.change(1)
        self.turn()
        self.assertIn("monitor m 10.0.0.1 1", self.files.done())
        self.core.options.announce_hostnames = self.core.options.resolve_hostnames = True
        self.change(2, None)
        self.turn()
        self.assertIn("monitor m redis.example 1", self.files.done())

    def test_generic(self) -> None:
        """Lines of other owners are written, too."""
        self.store = self.make_store(b"user al on\n# x\n")
        self.store.replace_generic("user", ["user al off", "user bo on"])
        self.store.replace_generic("loglevel", ["loglevel debug"])
        self.turn()
        text = self.files.done()
        self.assertTrue(text.startswith(f"user al off\n# x\n\n{MARKER}\nuser bo on\nloglevel debug\n"), text)

    def test_stop_when_idle(self) -> None:
        """Without changes, stopping does not wait; nothing is written afterwards."""
        self.assertIsNone(self.successResultOf(self.store.stop()))
        self.change(1)
        self.turn(10)
        self.assertEqual(self.files.writes, [])

    def test_stop_writes_what_is_left(self) -> None:
        """Stopping waits for the write in progress and one more with the changes made meanwhile."""
        self.change(1)
        self.turn()
        self.master.leader_epoch = 3
        self.change(2)
        stopped = self.store.stop()
        again = self.store.stop()
        self.files.done()
        self.assertNoResult(stopped)
        self.assertIn("leader-epoch m 3\n", self.files.done())
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual(self.durable, [1, 2])
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_stop_on_a_failing_disk(self) -> None:
        """One last attempt is made, and its failure does not delay the end."""
        self.change(1)
        self.turn()
        self.files.fail()
        stopped = self.store.stop()
        self.assertEqual(self.files.pending, 1)
        self.files.fail()
        self.successResultOf(stopped)
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_stop_while_a_write_hangs(self) -> None:
        """A disk that hangs delays the end by a few seconds, not for ever."""
        self.change(1)
        self.turn()
        stopped = self.store.stop()
        self.turn(STOP_LIMIT - 0.1)
        self.assertNoResult(stopped)
        self.turn(0.1)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.files.pending, 1)

    def test_probing(self) -> None:
        """The file is probed at start and periodically, without writing."""
        self.store.probe()
        for count in range(1, 4):
            self.assertEqual((len(self.files.probes), self.failures, self.files.writes), (count, [], []))
            self.files.probes[-1].callback("")
            self.turn(PROBE_PERIOD)
        stopped = self.store.stop()
        self.assertNoResult(stopped)  # the temporary file of the probe is still there
        self.files.probes[-1].callback("")
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_probe_that_fails(self) -> None:
        """A failed probe counts as a failed write: it is reported, and writes are attempted until one succeeds."""
        self.store.probe()
        self.files.probes[0].errback(OSError(30, "Read-only file system"))
        self.assertEqual((self.failures, self.store.failing), ([(0, 30)], True))
        self.turn(FIRST_RETRY)
        self.files.fail(OSError(30, "Read-only file system"))
        self.turn(LAST_RETRY)
        self.files.done()
        self.assertFalse(self.store.failing)
        self.assertEqual([failure[1] for failure in self.failures], [30, 30])
        self.turn(PROBE_PERIOD)
        self.assertEqual(len(self.files.probes), 2)

    def test_probe_behind_a_write(self) -> None:
        """The result of a probe during a write is ignored."""
        self.store.probe()
        self.change(1)
        self.turn()
        self.files.probes[0].errback(OSError(30, "Read-only file system"))
        self.assertEqual(self.failures, [])
        self.files.done()
        self.assertEqual(self.durable, [1])

    def test_overwritten_in_place(self) -> None:
        """That the file cannot be replaced is reported once; a successful probe does not reset that."""
        reasons: list[str] = []
        self.store = ConfigStore(
            cast(IHost, self.host),
            "/s.conf",
            ConfigDocument(b"", classify),
            self.core,
            self.durable.append,
            lambda *_: None,
            reasons.append,
        )
        self.store.probe()
        self.files.probes[0].callback("")
        self.files.reason = "Could not rename tmp config file (Device or resource busy)"
        for generation in (1, 2):
            self.master.leader_epoch = generation
            self.change(generation)
            self.turn()
            self.files.done()
            self.turn(PROBE_PERIOD)
            self.files.probes[-1].callback("")
        self.assertEqual(reasons, [self.files.reason])

    def test_reloads(self) -> None:
        """Saved state is read again as it was, and writing it again changes nothing."""
        self.master.config_epoch, self.master.leader_epoch, self.core.current_epoch = 3, 4, 5
        add_replica(self.master, address("10.0.0.2", 1))
        add_peer(self.master, "b" * 40, address("10.0.0.3", 2))
        self.change(1)
        self.turn()
        text = self.files.done()
        loaded = load("s.conf", text.encode(), disk=MemoryDisk())
        (record,) = loaded.masters
        self.assertEqual((record.config_epoch, record.leader_epoch, loaded.current_epoch), (3, 4, 5))
        self.assertEqual(record.replicas, [("10.0.0.2", 1)])
        self.assertEqual(record.sentinels, [("10.0.0.3", 2, "b" * 40)])
        self.store = self.make_store(text.encode())
        self.change(1)
        self.turn()
        self.assertEqual(self.files.done(), text)


class SlicesTests(SynchronousTestCase):
    """Lines of many masters are rendered in time slices."""

    def setUp(self) -> None:
        """Set up three masters, of which one is rendered per turn."""
        self.patch(store_module, "TIME_SLICE_SECONDS", -1.0)
        self.host = FakeHost()
        self.files = self.host.files
        self.core = FakeCore()
        for name in "abc":
            self.core.add(make_master(name))
        self.durable: list[int] = []
        self.store = self.make_store()
        self.rendered: list[str] = []

        def rendering(master: Master, by_hostname: bool, _: object) -> list[Line]:
            self.rendered.append(master.name)
            return master_lines(master, by_hostname)

        self.patch(store_module, "master_lines", rendering)

    def make_store(self) -> ConfigStore:
        """Return a store for an empty file."""
        host = cast(IHost, self.host)
        return ConfigStore(
            host, "/s.conf", ConfigDocument(b"", classify), self.core, self.durable.append, lambda *_: None
        )

    def vote(self, name: str, epoch: int, generation: int) -> None:
        """Record a change to one master and to the epoch, like the executor."""
        self.core.registry.masters[name].leader_epoch = self.core.current_epoch = epoch
        self.store.note_dirty({name, None})
        self.store.commit_soon(generation)

    def turn(self) -> None:
        """Let the reactor make one of the calls that are due."""
        call = self.host.reactor.calls.pop(0)
        self.assertLessEqual(call.getTime(), self.host.reactor.seconds())
        call.called = 1
        call.func(*call.args, **call.kw)

    def test_reactor_runs_between_slices(self) -> None:
        """Between two slices the reactor is free, and the write begins with the last one."""
        self.vote("b", 7, 1)
        for rendered in ("a", "ab", "abc"):
            self.assertEqual(self.files.pending, 0)
            self.turn()
            self.assertEqual("".join(self.rendered), rendered)
        self.assertEqual(self.files.pending, 1)
        self.files.done()
        self.assertEqual(self.durable, [1])

    def test_late_changes_are_not_reported(self) -> None:
        """A change between two slices is reported as durable by the next write, even if the file has it already."""
        self.vote("b", 7, 1)
        self.turn()
        self.vote("a", 8, 2)
        self.vote("c", 9, 3)
        self.turn()
        self.turn()
        text = self.files.done()
        self.assertIn("leader-epoch a 0\n", text)
        self.assertIn("leader-epoch c 9\n", text)
        self.assertIn("current-epoch 9\n", text)
        self.assertEqual(self.durable, [1])
        self.host.reactor.advance(0)
        self.assertIn("leader-epoch a 8\n", self.files.done())
        self.assertEqual(self.durable, [1, 3])
        self.assertEqual("".join(self.rendered), "abcac")

    def test_included_changes_are_reported(self) -> None:
        """A change between two slices that needs no further line is durable with this write."""
        self.vote("b", 7, 1)
        self.turn()
        self.store.replace_generic("loglevel", ["loglevel debug"])
        self.store.commit_soon(2)
        self.turn()
        self.turn()
        self.assertIn("loglevel debug\n", self.files.done())
        self.assertEqual(self.durable, [2])
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_removed_between_slices(self) -> None:
        """A master that is removed before it is rendered has no lines."""
        self.vote("b", 7, 1)
        self.turn()
        del self.core.registry.masters["c"]
        self.store.note_dirty({"c", None})
        self.store.commit_soon(2)
        self.host.reactor.advance(0)
        self.assertNotIn(" c ", self.files.done())
        self.host.reactor.advance(0)
        self.assertEqual(self.durable, [1, 2], "the bytes are the same and durable already")

    def test_preparing(self) -> None:
        """All lines are rendered before the first write, which renders only later changes."""
        self.store.prepare()
        self.host.reactor.advance(0)
        self.assertEqual("".join(self.rendered), "abc")
        self.assertEqual(self.files.writes, [])
        self.vote("b", 7, 1)
        self.turn()
        self.assertEqual("".join(self.rendered), "abcb")
        text = self.files.done()
        self.store = self.make_store()
        self.store.commit_soon(2)
        self.host.reactor.advance(0)
        self.assertEqual(self.files.done(), text, "the same as without")

    def test_write_while_preparing(self) -> None:
        """A write does not wait for the preparation: it renders the remaining lines itself."""
        self.store.prepare()
        self.vote("a", 7, 1)
        self.host.reactor.advance(0)
        self.assertEqual(sorted(self.rendered), ["a", "a", "b", "c"])
        self.assertIn("leader-epoch a 7\n", self.files.done())
        self.assertEqual(self.durable, [1])
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_stop_while_preparing(self) -> None:
        """The preparation ends when the store is stopped."""
        self.store.prepare()
        self.successResultOf(self.store.stop())
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])
        self.assertEqual(self.rendered, ["a"])

    def test_stop_between_slices(self) -> None:
        """Stopping waits until the rendering and the write have finished."""
        self.vote("b", 7, 1)
        self.turn()
        stopped = self.store.stop()
        self.host.reactor.advance(0)
        self.assertNoResult(stopped)
        self.assertIn("leader-epoch b 7\n", self.files.done())
        self.successResultOf(stopped)
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])


class ManyMastersTests(SynchronousTestCase):
    """A thousand masters are cheap."""

    def test_one_of_a_thousand(self) -> None:
        """A commit about one master renders its lines only, and takes at most a few milliseconds of CPU."""
        host, core = FakeHost(), FakeCore()
        for number in range(1000):
            master = core.add(make_master(f"m{number}"))
            for replica in range(2):
                add_replica(master, address("10.0.0.2", number * 2 + replica))
            for peer in range(4):
                add_peer(master, f"{peer:040}", address("10.0.0.3", peer))
        store = ConfigStore(
            cast(IHost, host), "/s.conf", ConfigDocument(b"", classify), core, lambda _: None, lambda *_: None
        )
        store.commit_soon(1)
        host.reactor.advance(0)
        text = host.files.done()
        # As after a restart: every line has its place in the file already.
        store = ConfigStore(
            cast(IHost, host), "/s.conf", ConfigDocument(text.encode(), classify), core, lambda _: None, lambda *_: None
        )
        store.commit_soon(1)
        host.reactor.advance(0)
        self.assertEqual(host.files.done(), text)
        formatted: list[str] = []

        def rendering(master: Master, by_hostname: bool, _: object) -> list[Line]:
            formatted.append(master.name)
            return master_lines(master, by_hostname)

        self.patch(store_module, "master_lines", rendering)
        spent = []
        for generation in range(2, 12):
            core.registry.masters["m500"].leader_epoch = generation
            store.note_dirty({"m500", None})
            store.commit_soon(generation)
            started = process_time()
            host.reactor.advance(0)
            spent.append(process_time() - started)
            self.assertIn(f"sentinel leader-epoch m500 {generation}\n", host.files.done())
        self.assertEqual(formatted, ["m500"] * 10)
        self.assertLess(min(spent), 0.01)
