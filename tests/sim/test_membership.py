"""Removed Sentinels and parked servers in simulated fleets, in which others are only cut off, die and return."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

from tests.sim.test_switchovers import SwitchoverCase
from txsentinel.core import membership
from txsentinel.core.membership import Forgetting
from txsentinel.core.membership_state import Membership
from txsentinel.model.events import SentinelEvent
from txsentinel.sim.fleet import Observer, SimSentinel
from txsentinel.sim.groups import Shape

FIVE = Shape(sentinels=5, quorum=2, down_after=1_000, failover_timeout=10_000)

SEEDS = 3


class Promotions(Observer):
    """The addresses that masters were switched to."""

    def __init__(self) -> None:
        self.switched: list[str] = []

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """Record a switch."""
        if event.channel == "+switch-master":
            self.switched.append(event.payload.split()[3])


class MembershipCase(SwitchoverCase):
    """Orders removals and drains."""

    def id_of(self, number: int) -> str:
        """Return the ID of a Sentinel."""
        return self.fleet.sentinels[number].alive.core.options.my_id

    def separate(self, *numbers: int) -> None:
        """Cut these Sentinels off from the others; all reach the servers."""
        sentinels = self.fleet.sentinels
        for number in numbers:
            for other in range(len(sentinels)):
                if other not in numbers:
                    self.fleet.network.cut(sentinels[number].host.ip, sentinels[other].host.ip)

    def forget(self, client: int, sentinel_id: str, *words: str) -> Any:
        """Order a removal."""
        return self.call("TXSENTINEL", "FORGET", self.name, "ID", sentinel_id, *words, client=client, seconds=6.0)

    def peers(self, number: int) -> set[str]:
        """Return the IDs of the peers of a Sentinel."""
        return set(self.fleet.sentinels[number].alive.core.master(self.name).peers)

    def violated(self) -> set[str]:
        """Return the invariants that were violated."""
        return {str(each).partition(" ")[0] for each in self.checker.violations}


class RemovalTests(MembershipCase):
    """Removal of Sentinels."""

    def split_brain(self, seed: int) -> list[Any]:
        """
        Have the two Sentinels of a minority remove the other three, then lose the master.

        All publish through the servers, so each side receives the hellos of the other, which are taken for lost.
        """
        self.start(seed, FIVE)
        ids = [self.id_of(number) for number in range(5)]
        minority = (3, 4)
        self.separate(*minority)
        with patch.object(membership, "LIFE_PERIODS", 0):
            self.fleet.run(12.0)
            replies = [self.forget(number, ids[gone]) for number in minority for gone in (0, 1, 2)]
        self.master().host.kill()
        self.fleet.run(20.0)
        return replies

    def test_minority(self) -> None:
        """A minority cannot make itself a majority."""
        replies = self.split_brain(1)
        self.assertEqual({"WOULDBREAKMAJORITY" in str(each) for each in replies}, {True}, replies)
        self.assertEqual([str(each) for each in self.checker.violations], [])

    def test_minority_without_the_check(self) -> None:
        """Without that check two leaders are elected in one epoch, so that the test can fail."""
        with patch.object(Forgetting, "check_majority", lambda *arguments: None):
            replies = self.split_brain(1)
        self.assertTrue(any(isinstance(each, dict) for each in replies), replies)
        self.assertIn("S3", self.violated())

    def test_random_removals(self) -> None:
        """Whatever is cut off, killed and removed without FORCE, no epoch has two leaders."""
        for seed in range(1, SEEDS + 1):
            random = Random(f"removals/{seed}")
            fleet = self.start(seed, FIVE)
            ids = [self.id_of(number) for number in range(5)]
            cut = random.sample(range(5), random.choice((1, 2, 2, 3)))
            if random.random() < 0.5:
                self.separate(*cut)
            else:
                for number in cut:
                    fleet.sentinels[number].host.kill()
            fleet.run(12.0 + random.random() * 3)
            removed = 0
            for number in range(5):
                if number in cut and random.random() < 0.7:
                    continue
                for gone in cut:
                    if gone != number and fleet.sentinels[number].running:
                        removed += isinstance(self.forget(number, ids[gone]), dict)
            self.master().host.kill()
            fleet.run(random.random() * 5)
            fleet.network.heal()
            for number in cut:
                if not fleet.sentinels[number].running:
                    fleet.sentinels[number].host.start()
            fleet.run(15.0)
            self.assertEqual([str(each) for each in self.checker.violations], [], (seed, cut, removed))
            for number in range(5):
                others = {each for place, each in enumerate(ids) if place != number}
                self.assertEqual(self.peers(number), others, "those that live are members again")

    def test_dead_for_good(self) -> None:
        """A removed Sentinel that is dead stays away over restarts, a failover and a reset, and returns with life."""
        fleet = self.start(2, FIVE)
        gone = self.id_of(4)
        fleet.sentinels[4].host.kill()
        fleet.run(12.0)
        reply = self.forget(0, gone)
        self.assertEqual({each["result"] for each in reply["sentinels"]}, {"removed"}, reply)
        for sentinel in fleet.sentinels[:4]:
            sentinel.host.restart()
            fleet.run(1.0)
        self.master().host.kill()
        fleet.run(15.0)
        self.call("SENTINEL", "RESET", self.name)
        fleet.run(5.0)
        for number in range(4):
            self.assertNotIn(gone, self.peers(number))
            self.assertEqual(len(self.peers(number)), 3)
        fleet.sentinels[4].host.start()
        fleet.run(10.0)
        for number in range(4):
            self.assertIn(gone, self.peers(number))
        self.assertEqual([str(each) for each in self.checker.violations], [])


class ParkingTests(MembershipCase):
    """Parked servers."""

    def promotions(self, seed: int) -> tuple[str, list[str]]:
        """Park a replica that would be promoted, lose masters, and restart Sentinels; return it and all new masters."""
        observer = Promotions()
        fleet = self.start(seed)
        fleet.observers.append(observer)
        replicas = [server for server in fleet.servers if not server.is_master]
        best = min(replicas, key=lambda server: server.run_id)
        reply = self.call("TXSENTINEL", "DRAIN", best.host.ip)
        self.assertTrue(reply["safe"], reply)
        for sentinel in fleet.sentinels:
            if Random(f"{seed}/{sentinel.name}").random() < 0.5:
                sentinel.host.restart()
                fleet.run(1.0)
        fleet.run(3.0)
        first = self.master()
        first.host.kill()
        fleet.run(15.0)
        first.host.start()
        fleet.run(15.0)
        self.assertEqual([str(each) for each in self.checker.violations], [])
        return best.host.ip, observer.switched

    def test_never_promoted(self) -> None:
        """A parked server is not promoted, also by Sentinels that were restarted meanwhile."""
        for seed in range(1, SEEDS + 1):
            parked, switched = self.promotions(seed)
            self.assertTrue(switched)
            self.assertNotIn(parked, switched)

    def test_without_the_rule(self) -> None:
        """Without the rule it is promoted, so that the test can fail."""
        with patch.object(Membership, "parking_of", lambda *arguments: None):
            found = [self.promotions(seed) for seed in range(1, SEEDS + 1)]
        self.assertTrue(any(parked in switched for parked, switched in found), found)


class BlockTests(MembershipCase):
    """The block of a second automatic failover."""

    def test_over_a_restart(self) -> None:
        """It holds over restarts of all Sentinels, and one acknowledgement ends it everywhere."""
        fleet = self.start(1)
        for number, sentinel in enumerate(fleet.sentinels):
            options = sentinel.alive.core.master(self.name).options
            options.guards = replace(options.guards, failover_block_period=600_000)
            self.call("SENTINEL", "FLUSHCONFIG", client=number)
        self.master().host.kill()
        fleet.run(10.0)
        for sentinel in fleet.sentinels:
            sentinel.host.restart()
            fleet.run(3.0)
        second = next(server for server in fleet.servers if server.is_master and server.host.running)
        second.host.kill()
        fleet.run(40.0)
        for sentinel in fleet.sentinels:
            self.assertEqual(sentinel.alive.core.master(self.name).address.ip, second.host.ip)
        remedies = fleet.sentinels[2].alive.core.explain(self.name, fleet.sentinels[2].host.now(), 0).unblock
        command = remedies[0].command
        assert command is not None and command.startswith("TXSENTINEL ACK "), remedies
        self.assertIn("OK", str(self.call(*command.split(), client=2)))
        fleet.run(10.0)
        for sentinel in fleet.sentinels:
            self.assertNotEqual(sentinel.alive.core.master(self.name).address.ip, second.host.ip)
        self.assertEqual([str(each) for each in self.checker.violations], [])
