"""
What an explanation lists under ``unblock`` lets a failover start, within the stated time.

Fleets are blocked in different ways, a Sentinel is asked at a random instant, and one of the changes that it names is
made, by the command that it names where there is one.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.events import SentinelEvent
from txsentinel.model.explanation import Explanation, Remedy, VerdictCode
from txsentinel.sim.fleet import Fleet, Observer, SimSentinel
from txsentinel.sim.groups import Shape
from txsentinel.sim.redis.server import SimRedis

SEEDS: Final = 21
"""Number of seeds for each way to block a fleet."""

MIN_INSTANTS: Final = 20
"""Number of instants at which a change must have been tried for each way; there are ten ways."""

MASTER: Final = "m1"


class Elected(Observer):
    """Records since when a failover has a leader."""

    def __init__(self) -> None:
        self.count = 0

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """Count elections."""
        self.count += event.channel == "+elected-leader"


@dataclass
class Blocked:
    """A fleet whose master is down, while something keeps it from being failed over."""

    fleet: Fleet
    random: Random

    @property
    def servers(self) -> list[SimRedis]:
        """The servers, the master first."""
        return self.fleet.servers

    def order(self, sentinel: SimSentinel, command: str) -> None:
        """Have a client send a command to a Sentinel."""
        client = next(each for each in self.fleet.clients if each.target is sentinel.host)
        client.order(*command.split())

    def order_all(self, command: str) -> None:
        """Have clients send a command to all Sentinels, and wait until it is executed."""
        for sentinel in self.fleet.sentinels:
            self.order(sentinel, command)
        self.fleet.run(1.0)

    def kill_master(self) -> None:
        """Kill the master."""
        self.servers[0].host.kill()


def lose_majority(blocked: Blocked) -> None:
    """Most Sentinels die before the master."""
    for sentinel in blocked.fleet.sentinels[2:] if blocked.fleet.shape.sentinels == 5 else blocked.fleet.sentinels[1:]:
        sentinel.host.kill()
    blocked.fleet.run(blocked.random.random() * 3)
    blocked.kill_master()


def lose_ghosts(blocked: Blocked) -> None:
    """Most Sentinels die, and the others restart, so that they have never seen these."""
    sentinels = blocked.fleet.sentinels
    alive = 2 if blocked.fleet.shape.sentinels == 5 else 1
    for sentinel in sentinels[alive:]:
        sentinel.host.kill()
    for sentinel in sentinels[:alive]:
        sentinel.host.restart()
    blocked.fleet.run(3.0)
    blocked.kill_master()


def raise_quorum(blocked: Blocked) -> None:
    """The quorum is above the number of Sentinels."""
    blocked.order_all(f"SENTINEL SET {MASTER} quorum {blocked.fleet.shape.sentinels + 1}")
    blocked.kill_master()


def set_priority(server: SimRedis, priority: str) -> None:
    """Set the priority of a replica."""
    # As CONFIG SET does, which needs a connection.
    server._settings["replica-priority"] = priority


def set_priorities(blocked: Blocked) -> None:
    """All replicas have priority 0."""
    for server in blocked.servers[1:]:
        set_priority(server, "0")
    blocked.fleet.run(12.0)
    blocked.kill_master()


def lose_replicas(blocked: Blocked) -> None:
    """All replicas are down."""
    for server in blocked.servers[1:]:
        server.host.kill()
    blocked.fleet.run(blocked.random.random() * 5)
    blocked.kill_master()


def cut_replicas(blocked: Blocked) -> None:
    """The replicas lose their link to the master long before it dies."""
    network, master = blocked.fleet.network, blocked.servers[0]
    for server in blocked.servers[1:]:
        network.cut(master.host, server.host)
        network.reset(master.host, server.host)
    # Replicas notice after their timeout of a minute, unless the connection is reset.
    blocked.fleet.run(10 * blocked.fleet.shape.down_after / 1000 + 8.0)
    blocked.kill_master()


def break_disks(blocked: Blocked) -> None:
    """No Sentinel can save."""
    for sentinel in blocked.fleet.sentinels:
        sentinel.host.files.fail_with = OSError(errno.ENOSPC, "No space left on device")
    blocked.order_all("SENTINEL FLUSHCONFIG")
    blocked.kill_master()


def stop_processes(blocked: Blocked) -> None:
    """All Sentinels stand still for a moment."""
    blocked.fleet.run(0.5)
    for sentinel in blocked.fleet.sentinels:
        sentinel.host.pause_for(3.0)
    blocked.kill_master()
    blocked.fleet.run(3.5)


def fail_attempt(blocked: Blocked) -> None:
    """A first attempt fails for want of a majority, and the Sentinels return."""
    blocked.order_all(f"SENTINEL SET {MASTER} quorum 1")
    lost = blocked.fleet.sentinels[1:]
    for sentinel in lost:
        sentinel.host.pause()
    blocked.kill_master()
    master = blocked.fleet.sentinels[0].alive.core.master(MASTER)
    simulation = blocked.fleet.simulation
    simulation.run_until(lambda: master.failover is not None, 20.0)
    simulation.run_until(lambda: master.failover is None, 20.0)
    # In TILT they vote, but do not campaign.
    for sentinel in lost:
        sentinel.host.resume()


def cut_one(blocked: Blocked) -> None:
    """One Sentinel cannot reach the master, which is up."""
    sentinel, master = blocked.fleet.sentinels[0].host, blocked.servers[0].host
    blocked.fleet.network.cut(sentinel, master)
    blocked.fleet.run(blocked.fleet.shape.down_after / 1000 + 2.0)


def repair(blocked: Blocked, sentinel: SimSentinel, remedy: Remedy) -> str:
    """Make the change that a remedy names; return the kind of the change."""
    fleet = blocked.fleet
    command = remedy.command
    if remedy.do.startswith("wait"):
        return "wait"
    if remedy.do.startswith("make "):
        # An operator repairs the disks of all Sentinels.
        for each in fleet.sentinels:
            each.host.files.fail_with = None
        return "storage"
    if command is not None and command.startswith("CONFIG SET replica-priority"):
        server = next(each for each in fleet.servers if remedy.who.startswith(f"{each.host.ip}:"))
        set_priority(server, command.rpartition(" ")[2])
        return "priority"
    if command is not None and command.startswith("TXSENTINEL FORGET"):
        for ghost in re.findall("[0-9a-f]{40}", remedy.do):
            removed = f"TXSENTINEL FORGET {MASTER} ID {ghost} FORCE"
            core = sentinel.alive.core
            # It is refused while the Sentinel may only be silent for a moment, and in TILT.
            for _ in range(30):
                if ghost in core.master(MASTER).peers:
                    blocked.order(sentinel, removed)
                    fleet.run(0.5)
        return "ghosts"
    if command is not None and command.startswith("SENTINEL"):
        # All Sentinels should have the same settings; an order goes to one.
        if "FAILOVER" in command:
            blocked.order(sentinel, command)
            return "order"
        blocked.order_all(command)
        return command.split()[3]
    if remedy.do.startswith("start or reconnect the replica"):
        next(each for each in fleet.servers if remedy.who.startswith(f"{each.host.ip}:")).host.start()
        return "replica"
    if remedy.do.startswith("start or reconnect the Sentinel"):
        ip = remedy.who.rpartition(" ")[2].partition(":")[0]
        next(each for each in fleet.sentinels if each.host.ip == ip).host.start()
        return "sentinel"
    raise AssertionError(f"unknown remedy: {remedy}")


class UnblockingTests(SynchronousTestCase):
    """The changes that explanations name."""

    def prepare(self, way: Callable[[Blocked], None], seed: int) -> tuple[Blocked, Elected]:
        """Block a fleet, and advance it to a random instant at which no failover runs."""
        random = Random(f"{way.__name__}/{seed}")
        sentinels = random.choice((3, 3, 5))
        timeout = random.choice((3_000, 10_000))
        majority = sentinels // 2 + 1
        quorum = random.choice((majority, majority - 1)) if way is not cut_one else majority
        shape = Shape(sentinels=sentinels, quorum=quorum, failover_timeout=timeout)
        fleet = Fleet(seed, shape)
        observer = Elected()
        fleet.observers.append(observer)
        fleet.start()
        self.assertTrue(fleet.converge(), fleet.disagreements())
        blocked = Blocked(fleet, random)
        way(blocked)
        fleet.run(random.random() * 4)
        return blocked, observer

    def explained(self, sentinel: SimSentinel) -> Explanation | None:
        """Return the explanation of a Sentinel that considers the master down, if no Sentinel leads a failover."""
        core = sentinel.alive.core
        master = core.master(MASTER)
        running = [each.alive.core.master(MASTER) for each in sentinel.fleet.sentinels if each.running]
        if any(each.failover is not None for each in running):
            return None
        now = sentinel.host.now()
        silent = core.tilt.active and master.link.silent_for(now) > master.options.down_after
        if master.sdown_since is None and not silent:
            return None
        return core.explain(MASTER, now, now)

    def attempt(self, way: Callable[[Blocked], None], seed: int) -> tuple[str, str] | None:
        """Try one change; return the code of the first hindrance and the kind of the change."""
        blocked, observer = self.prepare(way, seed)
        fleet, random = blocked.fleet, blocked.random
        explanation, sentinel = None, fleet.sentinels[0]
        for _ in range(200):
            candidates = [each for each in fleet.sentinels if each.running]
            sentinel = random.choice(candidates)
            explanation = self.explained(sentinel)
            if explanation is not None and explanation.unblock:
                break
            fleet.run(0.1)
        if explanation is None or not explanation.unblock:
            return None
        before = observer.count
        remedy = random.choice(explanation.unblock)
        text = f"{way.__name__}, seed {seed}, {sentinel.name}: {explanation.verdict.text}; {remedy}"
        kind = repair(blocked, sentinel, remedy)
        started = fleet.simulation.run_until(lambda: observer.count > before, remedy.bound_ms / 1000)
        self.assertTrue(started, text)
        return explanation.verdict.code.value, kind

    def check(self, way: Callable[[Blocked], None], codes: set[VerdictCode], kinds: set[str]) -> None:
        """Try a change for each seed; check that all these verdicts and kinds of changes were tried."""
        tried: Counter[tuple[str, str]] = Counter()
        for seed in range(1, SEEDS + 1):
            found = self.attempt(way, seed)
            if found is not None:
                tried[found] += 1
        self.assertGreaterEqual({code for code, _ in tried}, {code.value for code in codes}, tried)
        self.assertGreaterEqual({kind for _, kind in tried}, kinds, tried)
        self.assertGreaterEqual(tried.total(), MIN_INSTANTS, tried)

    def test_majority(self) -> None:
        """Most Sentinels are dead."""
        codes = {VerdictCode.QUORUM_UNREACHABLE, VerdictCode.MAJORITY_UNREACHABLE}
        self.check(lose_majority, codes, {"sentinel", "order"})

    def test_ghosts(self) -> None:
        """Most Sentinels were never seen."""
        codes = {VerdictCode.QUORUM_UNREACHABLE, VerdictCode.MAJORITY_COUNTS_GHOSTS}
        self.check(lose_ghosts, codes, {"sentinel", "order", "ghosts"})

    def test_quorum(self) -> None:
        """The quorum is too high."""
        self.check(raise_quorum, {VerdictCode.QUORUM_UNREACHABLE}, {"quorum", "order"})

    def test_priorities(self) -> None:
        """No replica has a priority."""
        self.check(set_priorities, {VerdictCode.ALL_PRIORITY_ZERO}, {"priority"})

    def test_replicas(self) -> None:
        """No replica is up."""
        self.check(lose_replicas, {VerdictCode.NO_FIT_REPLICA}, {"replica"})

    def test_links_of_replicas(self) -> None:
        """All replicas lost their master long before it died."""
        self.check(cut_replicas, {VerdictCode.NO_FIT_REPLICA}, {"down-after-milliseconds"})

    def test_storage(self) -> None:
        """Nothing can be saved."""
        self.check(break_disks, {VerdictCode.STORAGE_FAILING}, {"storage"})

    def test_tilt(self) -> None:
        """All Sentinels are in TILT."""
        self.check(stop_processes, {VerdictCode.TILT}, {"wait"})

    def test_attempts(self) -> None:
        """An attempt has just failed."""
        kinds = {"wait", "order", "failover-timeout"}
        self.check(fail_attempt, {VerdictCode.ATTEMPT_TOO_RECENT}, kinds)

    def test_disagreement(self) -> None:
        """One Sentinel cannot reach a master that is up."""
        self.check(cut_one, {VerdictCode.DOWN_HERE_ONLY}, {"quorum", "order"})
