"""The view of a Sentinel: what its snapshots show, and when they are made anew."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from txsentinel.core.instances import Master, Server
from txsentinel.core.link import LinkKind
from txsentinel.core.pauses import PauseRequest
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import ISentinelView
from txsentinel.model.explanation import UnfitCode
from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Endpoint, MasterSnapshot, ReplicaSnapshot, ViewChange
from txsentinel.runtime import snapshot_cache
from txsentinel.runtime.health import SentinelHealth
from txsentinel.runtime.service import SentinelService
from txsentinel.runtime.snapshot_builder import UNFIT_TEXTS, Assessment, assess
from txsentinel.runtime.view import SentinelView
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape

METHODS = set(cast("InterfaceClass", ISentinelView).names())
SILENCE = 5.0
"""Seconds without a reply after which a replica is unfit."""


class ViewCase(SynchronousTestCase):
    """The base of the tests: a simulated fleet that is at rest."""

    def start(self, shape: Shape | None = None) -> None:
        """Start the fleet, and let all offsets be reported."""
        self.fleet = Fleet(5, shape or Shape())
        self.fleet.start()
        self.assertTrue(self.fleet.converge())
        self.fleet.run(11.0)
        self.sentinel = self.fleet.sentinels[0]
        self.view: SentinelView = self.sentinel.alive.surface.view

    def one(self) -> MasterSnapshot:
        """Return the snapshot of the first master."""
        return self.view.master("m1")

    def core_master(self) -> Master:
        """Return the same master of the core."""
        return self.sentinel.alive.core.master("m1")


class ContentTests(ViewCase):
    """What the view shows."""

    def test_interface(self) -> None:
        """It implements the interface."""
        self.start()
        self.assertTrue(verifyObject(ISentinelView, self.view))

    def test_healthy_group(self) -> None:
        """A healthy master has its address, its counts, and replicas that could be promoted."""
        self.start()
        shape = self.fleet.shape
        master = self.one()
        self.assertEqual(master.address, Endpoint("10.1.0.1", 6379))
        self.assertEqual((master.status, master.verdict, master.flags), ("ok", "healthy", ("master",)))
        self.assertEqual((master.voters, master.voters_reachable, master.ok_sentinels), (3, 3, 3))
        self.assertEqual((master.voters_needed, master.ok_replicas), (2, shape.replicas))
        self.assertEqual(master.settings.down_after_ms, shape.down_after)
        self.assertIn(("crash-failover", "off"), master.settings.guards)
        self.assertEqual([each.would_be_promoted for each in master.replicas].count(True), 1)
        for replica in master.replicas:
            self.assertTrue(replica.fit and replica.connected and replica.master_link_up)
            self.assertEqual((replica.master_address, replica.replid), (master.address, master.replid))
            self.assertIsNotNone(replica.lag_bytes)
        for peer in master.peers:
            self.assertEqual((peer.kind, peer.acknowledges, peer.reports_master_down), ("txsentinel", True, False))

    def test_identity_and_load(self) -> None:
        """The Sentinel itself: its ID, its port, the state of its storage, and the date of the last sweep."""
        self.start()
        identity = self.view.identity()
        self.assertEqual(identity.sentinel_id, self.sentinel.alive.core.options.my_id)
        self.assertEqual(identity.uptime_ms, self.sentinel.host.now() - self.sentinel.alive.context.started_at)
        self.assertEqual((identity.storage.state, identity.storage.pending), ("ok", 0))
        self.assertEqual((identity.tilt.active, identity.stopping, identity.masters), (False, False, 1))
        self.assertEqual([each.rpartition(":")[2] for each in identity.listens], ["26379"])
        load = self.view.load()
        assert load.swept_at is not None
        age = identity.started_at.unix_ms + identity.uptime_ms - load.swept_at.unix_ms
        self.assertTrue(0 <= age <= load.sweep_period_ms)
        self.assertEqual((load.links, load.clients > 0), (len(self.sentinel.alive.links), True))
        plain(identity)
        plain(load)

    def test_failing_storage(self) -> None:
        """An error of the disk is shown with its text, and generations that are not saved are counted."""
        self.start()
        self.sentinel.host.files.fail_with = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.sentinel.alive.core.administration.flush()
        self.sentinel.alive.executor.drain()
        self.fleet.run(2.0)
        storage = self.view.identity().storage
        self.assertEqual(storage.state, "failing")
        self.assertIn("ENOSPC", storage.last_error or "")
        self.assertGreater(storage.pending, 0)

    def test_plain(self) -> None:
        """What the view returns consists of frozen records and plain values: nothing of the core can be reached."""
        self.start()
        returned = {
            "explain": self.view.explain("m1"),
            "history": self.view.history(),
            "identity": self.view.identity(),
            "journal": self.view.journal("m1"),
            "load": self.view.load(),
            "master": self.view.master("m1"),
            "masters": self.view.masters(),
            "measurements": self.view.measurements(),
            "names": self.view.names(),
            "publishers": self.view.publishers.states(),
            "probe_times": self.view.probe_times("m1"),
            "reply_ages": self.view.reply_ages(),
            "revision": self.view.revision(),
        }
        self.assertEqual(returned.keys() | {"subscribe", "explain_group", "compare_group", "examine_group"}, METHODS)
        for name, value in returned.items():
            with self.subTest(method=name):
                plain(value)
        public = {name for name in {*vars(self.view), *dir(self.view)} if not name.startswith("_")}
        self.assertEqual(public - METHODS, {"clock_offset", "touched"})

    def test_probe_times(self) -> None:
        """The dates of the last answers are those of the core, by name of the instance."""
        self.start()
        master = self.core_master()
        times = self.view.probe_times("m1")
        self.assertEqual(times.keys(), {"m1", *master.replicas, *master.peers})
        offset = self.view.clock_offset
        answered = times["m1"].last_ok_ping_at
        assert answered is not None
        self.assertEqual(answered.unix_ms - offset, master.link.available_at)
        for name in master.peers:
            self.assertIsNone(times[name].info_at)
            self.assertIsNotNone(times[name].last_hello_at)

    def test_texts(self) -> None:
        """There is a clause for each reason why a replica is unfit, and none has figures, which would change."""
        self.assertEqual(set(UNFIT_TEXTS), set(UnfitCode))
        self.assertEqual([text for text in UNFIT_TEXTS.values() if re.search("[{1-9]", text)], [])

    def test_unknown_master(self) -> None:
        """Every method that takes a name raises LookupError with the name."""
        self.start()
        for method in (self.view.master, self.view.probe_times, self.view.explain, self.view.journal):
            with self.subTest(method=method):
                self.assertRaisesRegex(LookupError, "'unknown'", method, "unknown")

    def test_failover(self) -> None:
        """A failover shows its states; then the address is the new one, and the old master a replica that is down."""
        self.start()
        verdicts: list[str] = []
        for each in self.fleet.sentinels:
            view = each.alive.surface.view
            view.subscribe(lambda change, view=view: verdicts.append(view.master("m1").verdict))  # type: ignore[misc]
        pairs: set[tuple[str, int]] = set()
        for each in self.fleet.sentinels:
            each.alive.core.state.observe_changes(self.noting(each.alive, pairs))
        old = self.one().address
        epoch = self.one().config_epoch
        self.fleet.masters[0].servers[0].host.kill()
        self.fleet.run(20.0)
        master = self.one()
        self.assertNotEqual(master.address, old)
        # What publishes both must never see the old address with the new epoch, while the new address is not durable.
        self.assertEqual(pairs, {(str(old), epoch), (str(master.address), master.config_epoch)})
        self.assertIsNotNone(master.switched_at)
        self.assertEqual(master.config_epoch, self.core_master().config_epoch)
        self.assertLessEqual({"down_here_only", "electing", "promoting", "switched", "healthy"}, set(verdicts))
        (gone,) = [each for each in master.replicas if each.address == old]
        self.assertEqual((gone.fit, gone.unfit_code), (False, "down"))
        self.assertEqual(master.ok_replicas, self.fleet.shape.replicas - 1)
        assert gone.failure is not None
        self.assertIn(gone.failure.failure_class, ("refused", "reset", "timeout"))

    def noting(self, service: SentinelService, pairs: set[tuple[str, int]]) -> Callable[[Master | None, bool], None]:
        """Return a function that passes reports of changes on, and notes address and epoch shortly after each."""

        view = service.surface.view

        def note() -> None:
            master = view.master("m1")
            pairs.add((str(master.address), master.config_epoch))

        def touched(master: Master | None, offsets_only: bool = False) -> None:
            view.touched(master, offsets_only)
            service.host.reactor.callLater(0, note)

        return touched


class PauseTests(ViewCase):
    """A pause of automatic failovers in a simulated fleet."""

    def test_shown(self) -> None:
        """It is shown as long as it is in force, with what it means for the others; the status names it, too."""
        self.start()
        core, host = self.sentinel.alive.core, self.sentinel.alive.host
        self.assertIsNone(self.one().pause)
        request = PauseRequest(20_000, by="alice", reason="kernel")
        core.pauses.order("m1", request, host.now(), round(host.wall_clock() * 1000))
        self.sentinel.alive.executor.drain()
        pause = self.one().pause
        assert pause is not None
        self.assertEqual(
            (pause.by, pause.reason, pause.scope, pause.all_masters), ("alice", "kernel", "failover", False)
        )
        self.assertEqual((pause.guaranteed, pause.obstacle), (False, "the pause is not durable yet"))
        self.assertEqual({each.state for each in pause.sentinels}, {"free"})
        revision = self.view.revision()
        self.fleet.run(2.0)
        self.assertGreater(self.view.revision(), revision)
        after = self.one().pause
        assert after is not None
        self.assertEqual((after.guaranteed, {each.state for each in after.sentinels}), (True, {"paused"}))
        self.assertEqual((after.until, self.one().verdict), (pause.until, "paused"))
        for sentinel in self.fleet.sentinels:
            self.assertEqual(sentinel.alive.surface.view.master("m1").verdict, "paused")
        health = SentinelHealth(core, self.sentinel.alive.store, self.sentinel.alive.sweeping, host)
        self.assertIn("paused m1 until ", health.status())
        self.fleet.run(20.0)
        self.assertIsNone(self.one().pause)
        self.assertEqual((self.one().verdict, health.status()), ("healthy", "1 master ok, 2/2 peers"))


class CacheTests(ViewCase):
    """When snapshots are made anew."""

    def count_assessments(self) -> list[str]:
        """Return a list that receives the name of each master that is looked at again."""
        names: list[str] = []

        def count(core: SentinelCore, master: Master, now: int) -> Assessment:
            names.append(master.name)
            return assess(core, master, now)

        self.patch(snapshot_cache, "assess", count)
        return names

    def test_unchanged(self) -> None:
        """As long as nothing changes, the same tuple is returned without looking at any master."""
        self.start(Shape(masters=3))
        before, revision = self.view.masters(), self.view.revision()
        names = self.count_assessments()
        for _ in range(5):
            self.assertIs(self.view.masters(), before)
        self.assertEqual((names, self.view.revision()), ([], revision))

    def test_one_changed(self) -> None:
        """Only the master that changed is looked at; the snapshots of the others stay the same objects."""
        self.start(Shape(masters=3))
        first, second, third = self.view.masters()
        names = self.count_assessments()
        self.sentinel.alive.core.state.touch(self.sentinel.alive.core.master("m2"))
        self.view.masters()
        self.assertEqual(names, ["m2"])
        self.sentinel.alive.core.master("m2").options.quorum = 1
        self.sentinel.alive.core.state.touch(self.sentinel.alive.core.master("m2"))
        after = self.view.masters()
        self.assertIs(after[0], first)
        self.assertIs(after[2], third)
        self.assertGreater(after[1].revision, second.revision)

    def test_offsets(self) -> None:
        """
        An INFO that changes only offsets, as nearly all do, makes no snapshot anew for those that do not want offsets.
        """
        self.start()
        before, revision = self.view.masters(), self.view.revision()
        names = self.count_assessments()
        for server in (self.core_master(), *self.core_master().replicas.values()):
            self.report(server, rb"(repl_offset|offset)(:|=)[0-9]+", rb"\1\g<2>7000000")
        self.assertIs(self.view.masters(offsets=False), before)
        self.assertEqual((names, self.view.revision(offsets=False)), ([], revision))
        (after,) = self.view.masters()
        self.assertEqual(names, ["m1"])
        self.assertEqual([after.offset, *(each.offset for each in after.replicas)], [7_000_000] * 3)

    def test_reports_of_replicas(self) -> None:
        """What else a replica reports by INFO is shown also to those that do not want offsets."""
        self.start()
        (before,) = self.view.masters(offsets=False)
        self.assertTrue(before.replicas[0].fit)
        self.report(self.core_master().replicas[before.replicas[0].name], rb"slave_priority:100", rb"slave_priority:0")
        (after,) = self.view.masters(offsets=False)
        changed = next(each for each in after.replicas if each.name == before.replicas[0].name)
        self.assertEqual((changed.priority, changed.unfit_code), (0, "priority_zero"))

    def report(self, server: Server, pattern: bytes, replacement: bytes) -> None:
        """Let a server report by INFO what it last reported, with a difference."""
        text, changes = re.subn(pattern, replacement, server.info_text or b"")
        self.assertGreater(changes, 0)
        self.sentinel.alive.core.info_reply(server.link, text, self.sentinel.host.now())

    def test_events_only(self) -> None:
        """A subscriber that wants events only gets no changes, and has no snapshot made."""
        self.start()
        self.view.masters()
        names = self.count_assessments()
        received: list[ViewChange] = []
        cancel = self.view.subscribe(received.append, changes=False)
        self.fleet.run(11.0)
        self.assertEqual((names, [change for change in received if change.event is None]), ([], []))
        self.fleet.masters[0].servers[0].host.kill()
        self.fleet.run(5.0)
        self.assertIn("+sdown", {change.event.channel for change in received})
        self.assertEqual(names, [])
        count = len(received)
        cancel()
        self.fleet.run(10.0)
        self.assertEqual(len(received), count)

    def test_touched_without_a_difference(self) -> None:
        """A report without a difference makes no new snapshot and no revision."""
        self.start()
        before, revision = self.one(), self.view.revision()
        self.sentinel.alive.core.state.touch(self.core_master())
        self.assertIs(self.one(), before)
        self.assertEqual(self.view.revision(), revision)

    def test_passing_of_time(self) -> None:
        """A replica that is silent becomes unfit without any event, and fit again by a reply to PING."""
        self.start(Shape(down_after=60_000))
        server = self.fleet.masters[0].servers[1]
        self.assertTrue(self.replica(server.host.ip).fit)
        server.host.pause()
        self.fleet.run(SILENCE + 1.0)
        silent = self.replica(server.host.ip)
        self.assertEqual((silent.fit, silent.unfit_code), (False, "silent"))
        server.host.resume()
        self.fleet.run(3.0)
        self.assertTrue(self.replica(server.host.ip).fit)

    def replica(self, ip: str) -> ReplicaSnapshot:
        """Return the snapshot of the replica at ``ip``."""
        return next(each for each in self.one().replicas if each.address.host == ip)

    def test_removed_master(self) -> None:
        """A master that is removed is gone from all answers."""
        self.start(Shape(masters=2))
        self.view.masters()
        self.sentinel.alive.core.administration.remove("m1", self.sentinel.host.now())
        self.assertEqual(([each.name for each in self.view.masters()], self.view.names()), (["m2"], ("m2",)))
        self.assertRaises(LookupError, self.view.master, "m1")

    def test_resolved_names(self) -> None:
        """A new address of a name is shown for the instances that have the name; the others are not looked at."""
        self.start(Shape(masters=2, hostnames=True))
        self.view.masters()
        core, master = self.sentinel.alive.core, self.core_master()
        names = self.count_assessments()
        core.address_resolved(master.address, "10.1.0.77", self.sentinel.host.now())
        self.view.masters()
        self.assertEqual((self.one().address.host, set(names)), ("10.1.0.77", {"m1"}))

    def test_refused_commands(self) -> None:
        """What a server refuses, and that it does so no longer, is shown at once."""
        self.start()
        core, link, now = self.sentinel.alive.core, self.core_master().link, self.sentinel.host.now()
        core.ping_reply(link, LinkKind.COMMANDS, b"NOAUTH Authentication required.", now)
        failure = self.one().failure
        assert failure is not None
        self.assertEqual((failure.failure_class, self.one().verdict), ("auth", "auth_failing"))
        core.ping_reply(link, LinkKind.COMMANDS, b"PONG", now)
        self.assertEqual(self.one().verdict, "healthy")

    def test_clock_step(self) -> None:
        """When the wall clock is set, all dates are made anew."""
        self.start()
        before = self.view.identity().started_at
        self.sentinel.host.wall_offset += 3600.0
        self.assertAlmostEqual(self.view.identity().started_at.unix_ms - before.unix_ms, 3_600_000, delta=2)


class SubscriptionTests(ViewCase):
    """Events and changes."""

    def test_events_and_changes(self) -> None:
        """Each event is passed on once it is published; changes of one turn are reported together."""
        self.start()
        seen: list[ViewChange] = []
        cancel = self.view.subscribe(seen.append)
        master = self.core_master()
        state = self.sentinel.alive.core.state
        master.options.quorum = 1
        state.touch(master)
        state.touch(master)
        self.assertEqual(seen, [])
        self.fleet.run(0.0001)
        self.assertEqual([(each.master, each.event) for each in seen], [("m1", None)])
        state.announce("+sdown", master)
        self.sentinel.alive.executor.drain()
        self.assertEqual([str(each.event) for each in seen[1:]], ["+sdown master m1 10.1.0.1 6379"])
        cancel()
        cancel()
        state.announce("-sdown", master)
        self.sentinel.alive.executor.drain()
        self.assertEqual(len(seen), 2)

    def changed(self, seen: list[ViewChange]) -> list[str | None]:
        """Return the masters whose snapshots were reported as changed, without events, and forget them."""
        names = [each.master for each in seen if each.event is None]
        seen.clear()
        return names

    def test_read_meanwhile(self) -> None:
        """A change is reported to subscribers although another reader has seen it before."""
        self.start()
        seen: list[ViewChange] = []
        self.view.subscribe(seen.append)
        for read in (lambda: self.view.masters(), lambda: self.view.master("m1")):
            self.core_master().options.quorum += 1
            self.sentinel.alive.core.state.touch(self.core_master())
            read()
            self.fleet.run(0.0001)
            self.assertEqual(self.changed(seen), ["m1"])

    def test_passing_of_time(self) -> None:
        """What changes by the passing of time is reported, although nothing happens and nobody asks."""
        self.start(Shape(down_after=60_000))
        seen: list[ViewChange] = []
        cancel = self.view.subscribe(seen.append)
        self.fleet.masters[0].servers[1].host.pause()
        self.fleet.run(SILENCE - 1.0)
        self.changed(seen)
        self.fleet.run(2.5)
        self.assertIn("m1", self.changed(seen))
        cancel()
        calls = len(self.sentinel.host.reactor.getDelayedCalls())
        self.view.subscribe(seen.append)()
        self.assertEqual(len(self.sentinel.host.reactor.getDelayedCalls()), calls)

    def test_pauses(self) -> None:
        """If a report takes long, the next one waits ten times as long, and has all changes until then."""
        self.start(Shape(masters=2))
        seen: list[ViewChange] = []
        self.view.subscribe(seen.append)
        state, reactor = self.sentinel.alive.core.state, self.sentinel.host.reactor
        clock = iter(range(1, 1000))
        began = reactor.seconds()
        # Read at the beginning and the end of a report, and once for the wall clock between them.
        self.patch(reactor, "seconds", lambda: began + next(clock) * 0.015)
        for delay, names in ((0.0001, ["m1"]), (0.25, []), (0.1, ["m1", "m2"])):
            for name in ("m1", "m2") if delay == 0.25 else ("m1",) if names == ["m1"] else ():
                self.sentinel.alive.core.master(name).options.quorum += 1
                state.touch(self.sentinel.alive.core.master(name))
            self.fleet.run(delay)
            self.assertEqual(self.changed(seen), names, delay)

    def test_exception(self) -> None:
        """An exception of one subscriber is logged; the others are called."""
        self.start()
        seen: list[ViewChange] = []

        def fail(change: ViewChange) -> None:
            raise ZeroDivisionError

        self.view.subscribe(fail)
        self.view.subscribe(seen.append)
        self.sentinel.alive.core.state.announce("+sdown", self.core_master())
        self.sentinel.alive.executor.drain()
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bug(self) -> None:
        """If a snapshot cannot be made, that is logged, and later changes are reported."""
        self.start()
        seen: list[ViewChange] = []
        self.view.subscribe(seen.append)

        def fail(core: SentinelCore, master: Master, now: int) -> Assessment:
            raise ZeroDivisionError

        state = self.sentinel.alive.core.state
        with self.subTest(step="failure"):
            self.patch(snapshot_cache, "assess", fail)
            state.touch(self.core_master())
            self.fleet.run(0.0001)
            self.assertEqual((len(self.flushLoggedErrors(ZeroDivisionError)), seen), (1, []))
        self.patch(snapshot_cache, "assess", assess)
        self.core_master().options.quorum = 1
        state.touch(self.core_master())
        self.fleet.run(2.0)
        self.assertIn("m1", self.changed(seen))

    def test_events_are_durable(self) -> None:
        """An event that waits for the disk reaches subscribers when it is published, not before."""
        self.start()
        seen: list[ViewChange] = []
        self.view.subscribe(seen.append)
        state = self.sentinel.alive.core.state
        state.changed(self.core_master())
        state.announce("+set", self.core_master(), "quorum 2", binding=True)
        self.sentinel.alive.executor.drain()
        self.assertEqual([each for each in seen if each.event is not None], [])
        self.fleet.run(1.0)
        self.assertEqual([each.event.channel for each in seen if each.event is not None], ["+set"])


class CostTests(ViewCase):
    """Without a view nothing is observed."""

    def test_no_view(self) -> None:
        """The service builds no view by itself, and the core reports no changes."""
        self.fleet = Fleet(5, Shape())
        self.patch(SentinelView, "__init__", lambda *arguments: self.fail("a view was built"))
        self.fleet.start()
        self.assertTrue(self.fleet.converge())
        for sentinel in self.fleet.sentinels:
            self.assertIsNone(sentinel.alive.core.state.change_observer)
