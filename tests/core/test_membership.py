"""Removal of members that do not exist any more, and servers that are not promoted."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from tests.core.test_explaining import SECOND, THIRD, WALL, explain, group
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Peer, Replica
from txsentinel.core.membership import DEFAULT_FORGET_TIME, EXPIRY_DISTANCE
from txsentinel.core.membership_state import MembershipRequest
from txsentinel.model.explanation import UnfitCode
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis

BY = "alice"


def request(fixture: Fixture, lasting: Millis) -> MembershipRequest:
    """Return a request of now."""
    wall = WALL + fixture.now
    return MembershipRequest(lasting, wall + lasting, wall, f"r{fixture.now}", BY)


def forget(fixture: Fixture, name: str, *, force: bool = False) -> str:
    """Remove the Sentinel with that letter, or the replica at that address, as the command does."""
    forgetting, master, now = fixture.core.forgetting, fixture.master, fixture.now
    if len(name) == 1:
        member = forgetting.find(master, sentinel_id=identity(name))
    else:
        member = forgetting.find(master, host=name, port=6379)
    forgetting.check(master, member, now, force=force)
    if isinstance(member, Peer) and not force:
        forgetting.check_majority(master, member)
    made = forgetting.forget(master, member, request(fixture, DEFAULT_FORGET_TIME), now)
    fixture.finish()
    return made


def park(fixture: Fixture, lasting: Millis = 60_000) -> None:
    """Park the first replica."""
    fixture.core.parking.park(fixture.master, SECOND, request(fixture, lasting), fixture.now)
    fixture.finish()


def lose(fixture: Fixture, letters: str, period: Millis = 15_000) -> None:
    """Kill some peers, and wait until they are taken for dead."""
    for letter in letters:
        fixture.kill(fixture.peer(letter).address)
    fixture.wait(period, 100)


def receive(fixture: Fixture, letters: str) -> None:
    """Have some peers send a hello."""
    for letter in letters:
        fixture.hello(letter, MASTER, 0)


class SentinelTests(SynchronousTestCase):
    """Removal of Sentinels."""

    def refused(self, code: str, fixture: Fixture, name: str, *, force: bool = False) -> str:
        """Check that a removal is refused with this code; return the error."""
        error = str(self.assertRaises(CommandError, forget, fixture, name, force=force))
        self.assertTrue(error.startswith(code), error)
        return error

    def test_removal(self) -> None:
        """A dead Sentinel is removed, and the majority becomes smaller."""
        fixture = group("bcd")
        lose(fixture, "d")
        self.assertEqual(3, fixture.master.majority)
        forget(fixture, "d")
        self.assertEqual(2, fixture.master.majority)
        self.assertNotIn(identity("d"), fixture.master.peers)
        kinds = [entry.kind for entry in fixture.core.journal.entries("mymaster")]
        self.assertIn(JournalKind.FORGOTTEN, kinds)

    def test_alive(self) -> None:
        """A Sentinel that answers, or did a moment ago, is not removed, not even by force."""
        fixture = group("bcd")
        self.assertIn("answers", self.refused("STILLALIVE", fixture, "d"))
        receive(fixture, "d")
        lose(fixture, "d", 5_000)
        self.assertIn("ms of silence", self.refused("STILLALIVE", fixture, "d", force=True))

    def test_hellos_of_an_unreachable_one(self) -> None:
        """A Sentinel that cannot be reached is alive while its hellos arrive."""
        fixture = group("bcd")
        lose(fixture, "d")
        fixture.core.hello_received(
            f"10.0.1.{ord('d')},26379,{identity('d')},0,mymaster,10.0.0.1,6379,0".encode(), fixture.now
        )
        self.refused("STILLALIVE", fixture, "d")

    def test_unknown(self) -> None:
        """A node that is no member is refused."""
        fixture = group()
        self.refused("UNKNOWNNODE", fixture, "z")
        self.refused("UNKNOWNNODE", fixture, "10.9.9.9")
        self.refused("ERR 10.0.0.1:6379 is the master itself", fixture, "10.0.0.1")

    def test_failover_in_progress(self) -> None:
        """Nothing is removed during a failover."""
        fixture = group("bcd")
        lose(fixture, "d")
        fixture.core.administration.failover("mymaster", fixture.now)
        self.refused("INPROG", fixture, "d")

    def test_failing_disk(self) -> None:
        """Nothing is removed while nothing can be saved."""
        fixture = group("bcd")
        lose(fixture, "d")
        fixture.disk_works = False
        fixture.core.state.changed(None)
        fixture.finish()
        self.refused("ERR Failed to save config file", fixture, "d")

    def test_minority(self) -> None:
        """A minority cannot make itself a majority, except by force."""
        fixture = group("bcde")
        lose(fixture, "cde")
        error = self.refused("WOULDBREAKMAJORITY", fixture, "e")
        self.assertIn("only 2 of 5 Sentinels can be reached, 3 are a majority", error)
        for letter in "ed":
            forget(fixture, letter, force=True)
        self.assertEqual(2, fixture.master.majority)

    def test_disjoint_majorities(self) -> None:
        """A second removal waits until the other Sentinels have made the first one."""
        fixture = group("bcde")
        lose(fixture, "de")
        forget(fixture, "d")
        error = self.refused("WOULDBREAKMAJORITY", fixture, "e")
        self.assertIn(f"10.0.1.{ord('b')}:26379, 10.0.1.{ord('c')}:26379", error)
        fixture.core.forgetting.confirmed(fixture.master, identity("d"), identity("b"))
        self.assertNotIn(f"10.0.1.{ord('b')}:26379", self.refused("WOULDBREAKMAJORITY", fixture, "e"))
        fixture.core.forgetting.confirmed(fixture.master, identity("d"), identity("c"))
        forget(fixture, "e")
        self.assertEqual(2, fixture.master.majority)

    def test_overlapping_majorities(self) -> None:
        """Majorities of four and of six Sentinels always share one, so the second removal need not wait."""
        fixture = group("bcdef")
        lose(fixture, "ef")
        forget(fixture, "e")
        forget(fixture, "f")
        self.assertEqual(3, fixture.master.majority)

    def test_durability(self) -> None:
        """A removed Sentinel counts until that is durable."""
        fixture = group("bcd")
        lose(fixture, "d")
        fixture.disk_slow = True
        forget(fixture, "d")
        self.assertEqual(3, fixture.master.majority)
        leaving = fixture.peer("d")
        self.assertTrue(fixture.master.membership.is_leaving(leaving.name, leaving.address))
        fixture.commit()
        self.assertEqual(2, fixture.master.majority)
        self.assertFalse(fixture.master.membership.is_leaving(leaving.name, leaving.address))

    def test_withdrawal(self) -> None:
        """A removal that cannot be saved does not take place."""
        fixture = group("bcd")
        lose(fixture, "d")
        fixture.disk_works = False
        made = forget(fixture, "d")
        fixture.core.forgetting.withdraw(fixture.master, made)
        fixture.disk_works = True
        fixture.finish()
        self.assertEqual(3, fixture.master.majority)
        self.assertEqual({}, fixture.master.membership.tombstones)

    def test_return(self) -> None:
        """Hellos alone do not bring a Sentinel back, the confirmation of its ID does."""
        fixture = group("bcd")
        place = fixture.peer("d").address
        lose(fixture, "d")
        forget(fixture, "d")
        receive(fixture, "d")
        fixture.wait(5_000, 100)
        self.assertNotIn(identity("d"), fixture.master.peers)
        fixture.revive(place)
        receive(fixture, "d")
        self.assertIn(identity("d"), fixture.master.peers)
        self.assertEqual({}, fixture.master.membership.tombstones)
        self.assertEqual(3, fixture.master.majority)
        self.assertIn("was removed by an operator, but is alive", "\n".join(fixture.output()))

    def test_link_of_another_master(self) -> None:
        """A hello does not bring back a dead Sentinel that another master still has."""
        fixture = group("bcd")
        other = fixture.add_master("other", 7)
        lose(fixture, "d")
        forget(fixture, "d")
        receive(fixture, "d")
        self.assertNotIn(identity("d"), fixture.master.peers)
        self.assertIn(identity("d"), other.peers)

    def test_reset(self) -> None:
        """A reset keeps the tombstone."""
        fixture = group("bcd")
        lose(fixture, "d")
        forget(fixture, "d")
        fixture.core.administration.reset("mymaster", fixture.now)
        fixture.finish()
        self.assertIn(identity("d"), fixture.master.membership.tombstones)

    def test_restoration(self) -> None:
        """A file that still lists a removed member does not bring it back."""
        fixture = group("bcd")
        lose(fixture, "d")
        lines = [(peer.address, peer.name) for peer in fixture.master.peers.values()]
        replicas = [replica.address for replica in fixture.master.replicas.values()]
        fixture.kill(SECOND)
        fixture.wait(3_000, 100)
        forget(fixture, "d")
        forget(fixture, "10.0.0.2")
        park_third = request(fixture, 60_000)
        fixture.core.parking.park(fixture.master, THIRD, park_third, fixture.now)
        fixture.finish()
        removed = fixture.core.administration.remove("mymaster", fixture.now)
        removed = replace(removed, peers=lines, replicas=replicas)
        fixture.core.administration.readmit(removed, fixture.now)
        restored = fixture.core.master("mymaster")
        self.assertEqual({identity("b"), identity("c")}, set(restored.peers))
        self.assertEqual(["10.0.0.3:6379"], list(restored.replicas))
        self.assertIsNotNone(restored.membership.parking_of(THIRD, fixture.now))
        self.assertEqual("10.0.0.2:6379", restored.membership.tombstone_of(SECOND, fixture.now))

    def test_end_of_tombstone(self) -> None:
        """A tombstone ends."""
        fixture = group("bcd")
        lose(fixture, "d")
        forget(fixture, "d")
        fixture.now += DEFAULT_FORGET_TIME
        fixture.sweep()
        self.assertEqual({}, fixture.master.membership.tombstones)


class ReplicaTests(SynchronousTestCase):
    """Removal of replicas."""

    def list_replicas(self, fixture: Fixture, lag: int) -> None:
        """Deliver INFO of the master that lists the first replica."""
        line = f"slave0:ip=10.0.0.2,port=6379,state=online,offset=100,lag={lag}"
        fixture.servers[MASTER].extra = [line]
        fixture.core.info_reply(fixture.master.link, fixture.servers[MASTER].info(), fixture.now)
        fixture.finish()

    def test_removal(self) -> None:
        """A dead replica stays away while the master has not noticed that it is gone, and returns with life."""
        fixture = group()
        fixture.kill(SECOND)
        fixture.wait(3_000, 100)
        self.list_replicas(fixture, 5)
        error = str(self.assertRaises(CommandError, forget, fixture, "10.0.0.2"))
        self.assertEqual("STILLALIVE the replica at 10.0.0.2:6379 is online according to its master", error)
        self.list_replicas(fixture, 50)
        forget(fixture, "10.0.0.2")
        self.assertEqual(["10.0.0.3:6379"], list(fixture.master.replicas))
        self.list_replicas(fixture, 55)
        self.assertEqual(["10.0.0.3:6379"], list(fixture.master.replicas))
        self.list_replicas(fixture, 0)
        self.assertIn("10.0.0.2:6379", fixture.master.replicas)
        self.assertEqual({}, fixture.master.membership.tombstones)

    def test_alive(self) -> None:
        """A replica that answers is removed only by force, if it follows another server."""
        fixture = group()
        error = str(self.assertRaises(CommandError, forget, fixture, "10.0.0.2", force=True))
        self.assertEqual("STILLALIVE the replica at 10.0.0.2:6379 answers", error)
        fixture.servers[SECOND].follows = THIRD
        replica = fixture.replica(2)
        fixture.core.info_reply(replica.link, fixture.servers[SECOND].info(), fixture.now)
        self.assertRaises(CommandError, forget, fixture, "10.0.0.2")
        forget(fixture, "10.0.0.2", force=True)
        self.assertEqual(["10.0.0.3:6379"], list(fixture.master.replicas))
        self.assertTrue(replica.link.closed)

    def test_new_master(self) -> None:
        """A removed replica that becomes the master, as others failed over to it, is no removed one any more."""
        fixture = group()
        fixture.kill(SECOND)
        fixture.wait(3_000, 100)
        forget(fixture, "10.0.0.2")
        fixture.hello("b", SECOND, 5)
        fixture.wait(3_000, 100)
        fixture.hello("b", SECOND, 5)
        self.assertEqual(SECOND, fixture.master.address)
        self.assertEqual({}, fixture.master.membership.tombstones)


class ExpiryTests(SynchronousTestCase):
    """The options that remove members which have been dead for long."""

    def test_sentinels(self) -> None:
        """One Sentinel is removed per hour, while a majority can be reached."""
        fixture = group("bcdef")
        guards = fixture.master.options.guards
        lose(fixture, "ef")
        fixture.wait(30_000, 1_000)
        self.assertEqual(5, len(fixture.master.peers))
        fixture.master.options.guards = replace(guards, forget_sentinels_after=20_000)
        fixture.wait(10_000, 1_000)
        self.assertEqual(4, len(fixture.master.peers))
        expired_at = fixture.master.membership.expired_at
        assert expired_at is not None
        fixture.master.membership.expired_at = expired_at - EXPIRY_DISTANCE
        fixture.wait(2_000, 500)
        self.assertEqual({identity("b"), identity("c"), identity("d")}, set(fixture.master.peers))

    def test_minority(self) -> None:
        """A minority removes nobody."""
        fixture = group("bcde")
        fixture.master.options.guards = replace(fixture.master.options.guards, forget_sentinels_after=20_000)
        lose(fixture, "bcd", 60_000)
        self.assertEqual(4, len(fixture.master.peers))

    def test_replicas(self) -> None:
        """A replica is removed after the time for replicas."""
        fixture = group()
        fixture.master.options.guards = replace(fixture.master.options.guards, forget_replicas_after=20_000)
        fixture.kill(SECOND)
        lose(fixture, "c", 18_000)
        self.assertEqual(2, len(fixture.master.replicas))
        fixture.wait(8_000, 500)
        self.assertEqual(["10.0.0.3:6379"], list(fixture.master.replicas))
        self.assertEqual(2, len(fixture.master.peers))


class ParkingTests(SynchronousTestCase):
    """Servers that are not promoted."""

    def unfit(self, fixture: Fixture) -> UnfitCode | None:
        """Return why the first replica is unfit."""
        found = next(each for each in explain(fixture).replicas if each.name == "10.0.0.2:6379")
        return None if found.unfit is None else found.unfit.code

    def test_parked(self) -> None:
        """A parked replica is not promoted, even if it is the only one."""
        fixture = group()
        park(fixture)
        self.assertEqual(UnfitCode.PARKED, self.unfit(fixture))
        fixture.kill(THIRD)
        fixture.wait(3_000, 100)
        self.assertRaises(CommandError, fixture.core.administration.failover, "mymaster", fixture.now)
        unblock = explain(fixture).unblock
        self.assertIn("TXSENTINEL DRAIN 10.0.0.2 6379 UNDO", [each.command for each in unblock])

    def test_end(self) -> None:
        """The parking ends with its time, or by an order."""
        fixture = group()
        park(fixture, 5_000)
        fixture.wait(6_000, 500)
        self.assertIsNone(self.unfit(fixture))
        self.assertEqual({}, fixture.master.membership.parked)
        park(fixture)
        self.assertTrue(fixture.core.parking.unpark(fixture.master, SECOND, fixture.now, BY))
        self.assertFalse(fixture.core.parking.unpark(fixture.master, SECOND, fixture.now, BY))
        self.assertIsNone(self.unfit(fixture))

    def test_restart(self) -> None:
        """A parked server that was restarted may be promoted as soon as it is in sync."""
        fixture = group()
        park(fixture)
        server = fixture.servers[SECOND]
        server.run_id, server.link_status, server.down_for = "9" * 40, "down", 1
        fixture.wait(11_000, 100)
        self.assertEqual(UnfitCode.PARKED, self.unfit(fixture))
        server.link_status, server.down_for = "up", 0
        fixture.wait(11_000, 100)
        self.assertIsNone(self.unfit(fixture))

    def test_switch(self) -> None:
        """A parked master is a parked replica after a switch, with the run ID that it had."""
        fixture = group()
        fixture.core.parking.park(fixture.master, MASTER, request(fixture, 60_000), fixture.now)
        fixture.servers[SECOND].role = "master"
        fixture.hello("b", SECOND, 5)
        fixture.wait(3_000, 100)
        fixture.hello("b", SECOND, 5)
        self.assertEqual(SECOND, fixture.master.address)
        old = fixture.master.replicas["10.0.0.1:6379"]
        assert isinstance(old, Replica)
        parked = fixture.master.membership.parking_of(old.address, fixture.now)
        assert parked is not None
        self.assertEqual("a" * 40, parked.parked_run_id)


class LateRequestTests(SynchronousTestCase):
    """Requests that arrive in another order than they were made."""

    def test_earlier_request(self) -> None:
        """An earlier request for the same server has no effect."""
        fixture = group()
        later = request(fixture, 60_000)
        fixture.core.parking.park(fixture.master, SECOND, later, fixture.now)
        earlier = replace(later, lasting=1_000, requested_unix=later.requested_unix - 1)
        fixture.core.parking.park(fixture.master, SECOND, earlier, fixture.now)
        parked = fixture.master.membership.parking_of(SECOND, fixture.now)
        assert parked is not None
        self.assertEqual(fixture.now + 60_000, parked.until)
