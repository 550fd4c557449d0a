"""Servers with the data of another group: they are neither promoted nor silently adopted."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from tests.core.test_empty_restart import NEW, NEWER, OLD, hold
from txsentinel.core.lineage import MAX_HISTORIES, Fit, described, fit
from txsentinel.core.options import GuardOptions, Lineage
from txsentinel.core.selection import unfit_because
from txsentinel.model.address import Address
from txsentinel.wire.info import DataSetReport

FOREIGN = "f0" * 20
ELSEWHERE = Address.literal("10.9.0.1", 6379)


class LineageTests(SynchronousTestCase):
    """One Sentinel of three, a master and two replicas with one replication history."""

    def setUp(self) -> None:
        """Wait until all are known."""
        self.fixture = fixture = Fixture()
        self.replicas = [fixture.add_replica(2), fixture.add_replica(3)]
        for letter in "xy":
            fixture.add_peer(letter, reports_down=True)
        for server in (fixture.servers[MASTER], *self.replicas):
            hold(server, 100)
        fixture.core.timings.info_period = 1_000
        fixture.wait(3_000, 100)
        fixture.output()

    def strict(self) -> None:
        """Set ``lineage strict``."""
        options = self.fixture.master.options
        options.guards = replace(options.guards, lineage=Lineage.STRICT)

    def redirect(self, number: int) -> None:
        """Let a replica copy the data of a foreign master, which it follows."""
        server = self.replicas[number]
        server.follows = ELSEWHERE
        hold(server, 500, FOREIGN, offset=100_000)
        self.fixture.wait(2_000, 100)

    def test_foreign_replica_is_unfit(self) -> None:
        """A replica with the data of another group is not promoted, however much of that it has."""
        self.redirect(0)
        self.fixture.kill(MASTER)
        self.fixture.wait(2_500, 50)
        lines = self.fixture.output()
        self.assertIn("order 10.0.0.3 SLAVEOF NO ONE", lines)
        self.assertNotIn("order 10.0.0.2 SLAVEOF NO ONE", lines)
        self.assertIn("foreign_lineage", dict(self.fixture.master.last_refusals)["10.0.0.2:6379"].text)

    def test_restarted_replica(self) -> None:
        """A replica that restarted with its data, and never reached its master since then, is promoted."""
        self.replicas[1].priority = 0
        for role in ("slave", "master"):
            server = self.replicas[0]
            server.role, server.link_status, server.down_for = role, "down", -1
            hold(server, 100, FOREIGN, offset=0)
            self.fixture.wait(2_000, 100)
            self.assertIsNone(self.refusal())
            self.strict()
            self.assertIn("foreign_lineage", self.refusal() or "")
            self.fixture.master.options.guards = GuardOptions()
        self.fixture.kill(MASTER)
        self.fixture.wait(2_500, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def refusal(self) -> str | None:
        """Return why the first replica must not be promoted."""
        replica = self.fixture.master.replicas["10.0.0.2:6379"]
        reason = unfit_because(replica, self.fixture.master, self.fixture.core.timings, self.fixture.now)
        return None if reason is None else reason.text

    def test_replica_that_never_synchronized(self) -> None:
        """A replica that never had a link to its master, and has no data, is not promoted."""
        self.replicas[0].link_status, self.replicas[0].down_for = "down", -1
        hold(self.replicas[0], 0, FOREIGN, offset=0)
        self.fixture.wait(2_000, 100)
        self.fixture.kill(MASTER)
        self.fixture.wait(2_500, 50)
        self.assertIn("foreign_lineage", dict(self.fixture.master.last_refusals)["10.0.0.2:6379"].text)

    def test_new_history_of_the_master(self) -> None:
        """A history that came with a link to the master is the group's, also if the master has not reported it."""
        for server in self.replicas:
            hold(server, 100, NEW)
        self.fixture.wait(1_500, 100)
        self.fixture.kill(MASTER)
        for server in self.replicas:
            server.link_status, server.down_for = "down", 1
        self.fixture.wait(2_500, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_restarted_sentinel(self) -> None:
        """A Sentinel that has seen no history of the group yet finds no server foreign."""
        self.fixture.kill(MASTER)
        for server in self.replicas:
            server.link_status, server.down_for = "down", -1
        self.fixture.restart()
        self.fixture.wait(3_000, 50)
        self.assertIn("order 10.0.0.2 SLAVEOF NO ONE", self.fixture.output())

    def test_promoted_replica_is_adopted_at_once(self) -> None:
        """A replica that another Sentinel promoted has the former history as its second one."""
        self.strict()
        hold(self.replicas[0], 100, NEW, replid2=OLD, second_offset=101)
        self.replicas[0].role = "master"
        self.fixture.wait(1_500, 100)
        self.fixture.hello("x", self.replicas[0].address, 5)
        self.assertEqual(self.fixture.master.address, self.replicas[0].address)

    def test_unknown_address(self) -> None:
        """An unknown address is adopted by default, and the log names both histories when its server sends INFO."""
        server = self.fixture.servers.setdefault(ELSEWHERE, replace(self.replicas[0], address=ELSEWHERE))
        server.role, server.follows = "master", None
        hold(server, 500, FOREIGN)
        self.fixture.hello("x", ELSEWHERE, 5)
        self.fixture.wait(1_000, 100)
        self.assertEqual(self.fixture.master.address, ELSEWHERE)
        (line,) = [line for line in self.fixture.output() if "Do two groups share the name?" in line]
        self.assertIn(described(FOREIGN), line)
        self.assertIn(described(OLD), line)

    def test_known_replica_with_a_new_history(self) -> None:
        """A replica whose data have a new history as its master restarted is announced: no other group is suspected."""
        hold(self.replicas[0], 100, NEWER, replid2=NEW, second_offset=101)
        self.replicas[0].role = "master"
        self.fixture.hello("x", self.replicas[0].address, 5)
        self.fixture.wait(3_000, 100)
        lines = self.fixture.output()
        self.assertTrue(self.fixture.master.address.same(self.replicas[0].address), lines)
        self.assertEqual([line for line in lines if "share the name" in line], [])

    def test_unknown_address_if_strict(self) -> None:
        """With ``lineage strict`` two groups that share a name do not merge; the log names the Sentinel."""
        self.strict()
        for _ in range(10):
            self.fixture.hello("x", ELSEWHERE, 5)
            self.fixture.wait(500, 100)
        self.assertEqual((self.fixture.master.address, self.fixture.master.config_epoch), (MASTER, 0))
        lines = [line for line in self.fixture.output() if "it is not adopted" in line]
        self.assertTrue(lines)
        self.assertIn("10.0.1.120:26379", lines[0])

    def test_foreign_replica_is_adopted_late(self) -> None:
        """A known replica with foreign data that is announced as the master is adopted after down-after."""
        self.redirect(0)
        address = self.replicas[0].address
        self.fixture.hello("x", address, 5)
        self.assertEqual(self.fixture.master.address, MASTER)
        self.fixture.wait(self.fixture.master.down_after, 100)
        self.fixture.hello("x", address, 5)
        self.assertEqual(self.fixture.master.address, address)

    def test_missed_failovers(self) -> None:
        """A Sentinel that missed two failovers adopts the replica that its own master follows, unless it is strict."""
        server = self.replicas[0]
        hold(server, 100, NEWER, replid2=NEW, second_offset=301)
        server.role, server.follows = "master", None
        for other in (self.fixture.servers[MASTER], self.replicas[1]):
            other.role, other.follows = "slave", server.address
            hold(other, 100, NEWER)
        self.fixture.wait(1_500, 100)
        self.strict()
        self.fixture.hello("x", server.address, 5)
        self.assertEqual(self.fixture.master.address, MASTER)
        options = self.fixture.master.options
        options.guards = replace(options.guards, lineage=Lineage.WARN)
        self.fixture.hello("x", server.address, 5)
        self.assertEqual(self.fixture.master.address, server.address)

    def test_foreign_replica_if_strict(self) -> None:
        """With ``lineage strict`` it is never adopted."""
        self.strict()
        self.redirect(0)
        for _ in range(10):
            self.fixture.hello("x", self.replicas[0].address, 5)
            self.fixture.wait(500, 100)
        self.assertEqual(self.fixture.master.address, MASTER)

    def test_known_replica_after_a_restart(self) -> None:
        """A restarted Sentinel with ``lineage strict`` adopts a replica of its file, with nothing to compare."""
        self.strict()
        self.fixture.kill(MASTER)
        self.fixture.restart()
        self.fixture.hello("x", self.replicas[0].address, 5)
        self.assertEqual(self.fixture.master.address, self.replicas[0].address)

    def test_master_of_another_group(self) -> None:
        """The master of another group that is still listed as a replica is not ordered to follow, nor reconfigured."""
        fixture, other = self.fixture, self.fixture.add_master("other", 7)
        listed = fixture.core.registry.add_replica(fixture.master, other.address, fixture.now)
        self.assertIsNotNone(listed)
        fixture.wait(20_000, 100)
        lines = fixture.output()
        self.assertEqual([line for line in lines if line.startswith("order 10.1.0.7")], [])
        notes = [line for line in lines if "is listed as a replica of mymaster, but is the master of other" in line]
        self.assertTrue(0 < len(notes) < 4, notes)
        fixture.kill(MASTER)
        fixture.wait(20_000, 100)
        lines = fixture.output()
        self.assertEqual([line for line in lines if line.startswith("order 10.1.0.7")], [])
        self.assertTrue([line for line in lines if "+failover-end" in line])

    def test_histories_are_bounded(self) -> None:
        """Only the latest histories are remembered."""
        master = self.fixture.servers[MASTER]
        for number in range(MAX_HISTORIES + 10):
            hold(master, 100, f"{number:040x}")
            self.fixture.wait(1_100, 100)
        self.assertEqual(len(self.fixture.master.lineage.histories), MAX_HISTORIES)
        self.assertIn(f"{MAX_HISTORIES + 9:040x}", self.fixture.master.lineage.histories)

    def test_fit(self) -> None:
        """One of both IDs must be known; without a report or known histories the fit is unknown."""
        master = self.fixture.master
        for replid, replid2, expected in (
            (OLD, None, Fit.FITS),
            (NEW, OLD, Fit.FITS),
            (NEW, None, Fit.FOREIGN),
            (NEW, FOREIGN, Fit.FOREIGN),
        ):
            self.assertIs(fit(DataSetReport(replid, replid2, 0, -1, 0, 0, False), master), expected)
        self.assertIs(fit(None, master), Fit.UNKNOWN)
        master.lineage.histories.clear()
        self.assertIs(fit(DataSetReport(NEW, None, 0, -1, 0, 0, False), master), Fit.UNKNOWN)
