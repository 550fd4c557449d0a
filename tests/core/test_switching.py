"""The switch of a master to another address."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.effects import PublishHello
from txsentinel.core.instances import Master, Peer
from txsentinel.core.role import Role
from txsentinel.model.address import Address

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


class SwitchTests(SynchronousTestCase):
    """What a switch keeps and what it resets."""

    def setUp(self) -> None:
        """Set up a master with two replicas and two peers, and switch it to the first replica."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_replica(3)
        self.fixture.add_peer("b", reports_down=True)
        self.fixture.add_peer("z", reports_down=True)
        self.fixture.wait(3_000)
        self.fixture.output()

    def switch(self) -> Master:
        """Switch by a hello."""
        self.fixture.servers[SECOND].role = "master"
        self.fixture.hello("b", SECOND, 4)
        return self.fixture.master

    def test_replicas(self) -> None:
        """All other servers, and the old master, become its replicas, in that order."""
        self.assertEqual(["10.0.0.3:6379", "10.0.0.1:6379"], list(self.switch().replicas))

    def test_address_and_epoch_until_saved(self) -> None:
        """Until the new address is saved, clients get the old one with its own epoch, also after another move."""
        core, master = self.fixture.core, self.fixture.master
        self.fixture.disk_slow = True
        self.switch()
        for epoch in (4, 5, 6):
            self.assertEqual((core.state.durable_address(master), core.state.durable_config_epoch(master)), (MASTER, 0))
            explained = core.explain("mymaster", self.fixture.now, self.fixture.now)
            self.assertEqual((str(explained.address), explained.config_epoch), ("10.0.0.1:6379", 0))
            self.fixture.servers[THIRD if epoch == 4 else SECOND].role = "master"
            self.fixture.hello("b", THIRD if epoch == 4 else SECOND, epoch + 1)
        self.assertEqual(master.config_epoch, 7)
        self.fixture.commit()
        self.assertEqual((core.state.durable_address(master), core.state.durable_config_epoch(master)), (SECOND, 7))

    def test_connections_are_kept(self) -> None:
        """Each server keeps its connection."""
        before = {i.address: i.link for i in self.fixture.core.registry.instances()}
        self.switch()
        self.assertEqual(before, {i.address: i.link for i in self.fixture.core.registry.instances()})

    def test_lost_connections_are_replaced(self) -> None:
        """A link without a connection is replaced by one with new clocks that connects at once."""
        link = self.fixture.master.replicas["10.0.0.2:6379"].link
        self.fixture.kill(SECOND)
        self.fixture.wait(900)
        self.fixture.servers[SECOND].up = True
        master = self.switch()
        self.assertIsNot(link, master.link)
        self.assertTrue(link.closed)
        self.assertTrue(master.link.commands_up)

    def test_state_is_reset(self) -> None:
        """S_DOWN, roles, attempts, opinions and run ID are reset."""
        self.fixture.kill(MASTER)
        self.fixture.wait(1_010)
        master = self.switch()
        self.assertEqual((None, None, None), (master.sdown_since, master.odown_since, master.attempt_started_at))
        self.assertIs(Role.MASTER, master.role_reported)
        self.assertEqual([False, False], [peer.reports_master_down for peer in master.peers.values()])
        self.assertIsNone(master.failover)

    def test_votes_are_kept(self) -> None:
        """The epoch of the last vote is kept through any number of switches."""
        self.fixture.core.vote_requested(MASTER.ip, MASTER.port, 3, self.fixture.peer("b").name, 0)
        self.assertEqual(3, self.switch().leader_epoch)

    def test_info_at_once(self) -> None:
        """INFO is requested of all servers in the next sweep, which is due at once."""
        master = self.switch()
        self.assertEqual(self.fixture.now, self.fixture.core.next_due)
        self.fixture.sweep()
        for server in (master, *master.replicas.values()):
            self.assertEqual(self.fixture.now, server.info_refreshed_at, server.name)

    def test_late_replies_of_the_old_role(self) -> None:
        """A reply after the switch to a request before it counts for the server that sent it."""
        replica = self.fixture.master.replicas["10.0.0.2:6379"]
        link = replica.link
        master = self.switch()
        stale = b"role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"
        self.fixture.core.info_reply(link, stale, self.fixture.now)
        self.fixture.core.publish_reply(link, replica, True, self.fixture.now)
        self.fixture.finish()
        self.assertEqual(SECOND, master.address)
        self.assertEqual(2, len(master.replicas))

    def test_reverse_switch(self) -> None:
        """A switch and its reverse result in the same set of servers."""
        self.switch()
        self.fixture.servers[MASTER].role = "master"
        self.fixture.hello("b", MASTER, 5)
        self.assertEqual({"10.0.0.2:6379", "10.0.0.3:6379"}, set(self.fixture.master.replicas))


class HelloForCPeersTests(SynchronousTestCase):
    """When hellos with a new address are sent to C Sentinels."""

    def delay(self, down_after: int, own: bool) -> int:
        """Return the delay of the hello to a peer after the switch, in milliseconds."""
        fixture = Fixture(down_after=down_after)
        fixture.add_replica(2)
        fixture.add_peer("b", reports_down=True)
        fixture.hello("b", MASTER, 0, own=own)
        fixture.wait(3_000)
        fixture.kill(MASTER)
        fixture.wait(4_000)
        self.assertEqual(SECOND, fixture.master.address)
        switched = fixture.master.switched_at
        assert switched is not None
        published = [
            at
            for at, e in fixture.sent
            if isinstance(e, PublishHello) and isinstance(e.instance, Peer) and b",10.0.0.2," in e.payload
        ]
        return min(published) - switched

    def test_txsentinel_peers(self) -> None:
        """The hello is sent at once to txsentinel, whatever down-after is."""
        self.assertEqual([0] * 5, [self.delay(down_after, True) for down_after in (200, 400, 700, 1_000, 2_000)])

    def test_c_peers(self) -> None:
        """It is sent at once where that is safe or no time is, else shortly before the next connection attempt."""
        figures = {down_after: self.delay(down_after, False) for down_after in (200, 400, 700, 1_000, 1_200, 2_000)}
        self.assertEqual((0, 0, 0, 0), (figures[200], figures[700], figures[1_200], figures[2_000]))
        self.assertGreater(figures[400], 300)
        self.assertTrue(200 <= figures[1_000] <= 450, figures)
