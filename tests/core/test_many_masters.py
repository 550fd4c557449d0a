"""
Tests that no input of the core takes longer with more masters.

Each scenario is run with two numbers of masters, and the executed lines of the core are counted. With four times the
masters, all of them together may cause four times the work: what searches all masters for each of them causes sixteen
times the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import FakeServer, Fixture, identity
from txsentinel import core
from txsentinel.core.durable_records import ALL_MASTERS
from txsentinel.core.instances import Master
from txsentinel.core.options import MasterOptions
from txsentinel.core.pause_rules import BEST_EFFORT
from txsentinel.core.pauses import PauseRequest
from txsentinel.model.address import Address

FEW: Final = 20
MANY: Final = 4 * FEW
TOLERANCE: Final = 1.25
"""How much more than the ratio of the sizes is tolerated: a test fails from five times the work on."""

SOURCES: Final = os.path.dirname(core.__file__)


def lines_of(action: Callable[[], object]) -> int:
    """Return how many lines of the core an action executes."""
    count = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(SOURCES) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


class Group:
    """A core with so many masters, each with a replica and the peer ``b``, all up."""

    def __init__(self, count: int, *, named: bool = False) -> None:
        self.fixture = Fixture()
        self.core = self.fixture.core
        if named:
            self.core.options.resolve_hostnames = True
        self.fixture.add_peer("b")
        self.masters = [self._add(number, named=named) for number in range(count)]
        self.fixture.finish()
        self.fixture.idle(1_000)
        self.fixture.sent.clear()

    def _add(self, number: int, *, named: bool) -> Master:
        fixture, ip = self.fixture, f"10.1.{number // 250}.{number % 250 + 1}"
        address = Address(f"m{number}.example", ip, 6379) if named else Address.literal(ip, 6379)
        replica = Address.literal(ip.replace("10.1", "10.2"), 6379)
        fixture.servers[address] = FakeServer(address)
        fixture.servers[replica] = FakeServer(replica, role="slave", follows=address, run_id=f"{number:040d}")
        peers = [(peer.address, peer.name) for peer in fixture.master.peers.values()]
        options = MasterOptions(quorum=2, down_after=1_000, failover_timeout=10_000)
        return self.core.administration.restore(
            f"m{number}", address, options, fixture.now, config_epoch=0, leader_epoch=0, replicas=[replica], peers=peers
        )

    def hello(self, letter: str, master: Master, address: Address, epoch: int) -> None:
        """Deliver a hello about a master that arrived through it."""
        text = (
            f"10.0.1.{ord(letter)},26379,{identity(letter)},{epoch},{master.name},{address.ip},{address.port},{epoch}"
        )
        self.core.hello_received(text.encode(), self.fixture.now, master.link)


class ManyMastersTests(SynchronousTestCase):
    """The work for all masters together grows as their number does."""

    def assert_linear(self, scenario: Callable[[Group], Callable[[], object]], *, named: bool = False) -> None:
        """Compare the lines executed by what a scenario returns for a group."""
        few, many = (lines_of(scenario(Group(count, named=named))) for count in (FEW, MANY))
        self.assertGreater(few, FEW, "the scenario does nothing")
        self.assertLess(many, TOLERANCE * few * MANY / FEW, f"{few} lines for {FEW} masters, {many} for {MANY}")

    def test_quiet(self) -> None:
        """Probes of one period, with their replies."""
        self.assert_linear(lambda group: lambda: group.fixture.idle(1_000))

    def test_questions_about_unknown_addresses(self) -> None:
        """A peer that has not learnt of the switches yet asks about addresses that the masters have left."""

        def scenario(group: Group) -> Callable[[], object]:
            def asked() -> None:
                for number in range(len(group.masters)):
                    group.core.vote_requested(f"10.9.0.{number}", 6379, 1, identity("b"), group.fixture.now)

            return asked

        self.assert_linear(scenario)

    def test_hellos_of_an_unconfirmed_sentinel(self) -> None:
        """A Sentinel that does not answer at its address, for example behind a firewall, sends hellos about all."""

        def scenario(group: Group) -> Callable[[], object]:
            def announced() -> None:
                for master in group.masters:
                    group.hello("c", master, master.address, 0)

            return announced

        self.assert_linear(scenario)

    def test_switches(self) -> None:
        """A peer announces a new address for every master."""

        def scenario(group: Group) -> Callable[[], object]:
            def switched() -> None:
                for number, master in enumerate(group.masters):
                    replica = next(iter(master.replicas.values()))
                    group.hello("b", master, replica.address, number + 1)
                group.fixture.finish()

            return switched

        self.assert_linear(scenario)

    def test_replicas_of_others(self) -> None:
        """Each replica reports to follow another server, so that it is checked whether it is that of another group."""

        def scenario(group: Group) -> Callable[[], object]:
            fixture = group.fixture
            elsewhere = Address.literal("10.9.0.1", 6379)

            def reported() -> None:
                for _ in range(3):
                    fixture.now += 30_000
                    for master in group.masters:
                        group.core.info_reply(master.link, FakeServer(master.address).info(), fixture.now)
                        for replica in list(master.replicas.values()):
                            info = FakeServer(replica.address, role="slave", follows=elsewhere).info()
                            group.core.info_reply(replica.link, info, fixture.now)

            return reported

        self.assert_linear(scenario)

    def test_resolved_names(self) -> None:
        """The name of each master is resolved, to the same address and to another one."""

        def scenario(group: Group) -> Callable[[], object]:
            def resolved() -> None:
                for master in group.masters:
                    group.core.address_resolved(master.address, master.address.ip, group.fixture.now)
                    group.core.address_resolved(master.address, None, group.fixture.now)
                    group.core.registry.awaits_resolution(master.address)
                    moved = master.address.ip.replace("10.1", "10.3")
                    group.core.address_resolved(master.address, moved, group.fixture.now)

            return resolved

        self.assert_linear(scenario, named=True)

    def test_pause_of_all(self) -> None:
        """A pause of all masters is ordered, and a client waits for its guarantee; no hello of a peer has arrived."""

        def scenario(group: Group) -> Callable[[], object]:
            pauses, fixture = group.core.pauses, group.fixture

            def paused() -> None:
                pauses.order(ALL_MASTERS, PauseRequest(60_000, require=BEST_EFFORT), fixture.now, fixture.now)
                pauses.await_guarantee(ALL_MASTERS, fixture.now + 1_000, lambda: None)
                # A whole cycle: with many masters there are several slots in it.
                fixture.idle(1_000)

            return paused

        self.assert_linear(scenario)

    def test_pauses_of_each(self) -> None:
        """Each master is paused by an order of its own, its records are saved, and the pauses end."""

        def scenario(group: Group) -> Callable[[], object]:
            pauses, fixture = group.core.pauses, group.fixture

            def paused() -> None:
                for master in group.masters:
                    request = PauseRequest(5_000, require=BEST_EFFORT)
                    pauses.order(master.name, request, fixture.now, fixture.now)
                fixture.finish()
                for master in group.masters:
                    group.core.records.of_master(master.name)
                fixture.now += 5_000
                fixture.sweep()

            return paused

        self.assert_linear(scenario)

    def test_failures(self) -> None:
        """All masters are lost at once, and the peer agrees."""

        def scenario(group: Group) -> Callable[[], object]:
            fixture = group.fixture
            fixture.servers[Address.literal(f"10.0.1.{ord('b')}", 26379)].reports_down = True
            for master in group.masters:
                server = fixture.servers[master.address]
                server.up = False

            def lost() -> None:
                for master in group.masters:
                    link = master.link
                    for kind in link.kinds:
                        group.core.link_down(link, kind, "refused", fixture.now)
                fixture.idle(1_200)

            return lost

        self.assert_linear(scenario)
