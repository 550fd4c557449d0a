"""Registration of instances, by name, address and link."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, FakeServer, Fixture, identity
from txsentinel.core.effects import Connect, Disconnect, Reconnect, ResolveAddress
from txsentinel.core.errors import NoSuchMaster
from txsentinel.core.instances import InstanceLink
from txsentinel.model.address import Address


class RegistryTests(SynchronousTestCase):
    """Instances and their links."""

    def setUp(self) -> None:
        """Set up two masters that share a peer."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.add_peer("b")
        self.other = self.fixture.add_master("other", 7)
        self.registry = self.fixture.core.registry

    def open_links(self) -> set[int]:
        """Return the links that were connected and not closed."""
        made = {e.link.link_id for _, e in self.fixture.sent if isinstance(e, Connect)}
        return made - {e.link.link_id for _, e in self.fixture.sent if isinstance(e, Disconnect)}

    def used_links(self) -> set[int]:
        """Return the links of all instances."""
        return {instance.link.link_id for instance in self.registry.instances()}

    def test_names(self) -> None:
        """A master is found by name, by glob pattern and by address; an unknown name raises."""
        self.assertIs(self.other, self.registry.master("other"))
        self.assertRaises(NoSuchMaster, self.registry.master, "none")
        self.assertEqual([self.other], self.registry.matching("o*"))
        self.assertIs(self.other, self.registry.by_address("10.1.0.7", 6379))
        self.assertIsNone(self.registry.by_address("10.1.0.7", 6380))

    def test_no_link_is_left_behind(self) -> None:
        """Through switches, resets, moves and removals, the open links are those in use."""
        fixture = self.fixture
        fixture.hello("b", Address.literal("10.0.0.2", 6379), 3)
        self.assertEqual(self.used_links(), self.open_links())
        fixture.hello("b", Address.literal("10.0.0.33", 6379), 4)
        self.assertEqual(self.used_links(), self.open_links())
        moved = Address.literal("10.3.3.3", 26379)
        fixture.servers[moved] = FakeServer(moved, sentinel_id=identity("b").encode())
        fixture.core.hello_received(f"10.3.3.3,26379,{identity('b')},4,other,10.1.0.7,6379,0".encode(), fixture.now)
        fixture.finish()
        self.assertEqual(self.used_links(), self.open_links())
        fixture.core.administration.reset("*", fixture.now)
        fixture.finish()
        self.assertEqual(self.used_links(), self.open_links())
        fixture.core.administration.remove("other", fixture.now)
        fixture.core.administration.remove("mymaster", fixture.now)
        fixture.finish()
        self.assertEqual(set(), self.open_links())
        fixture.wait(3_000, 100)
        self.assertIsNone(fixture.core.next_due)

    def test_instances_of_a_link(self) -> None:
        """The users of a link are exactly the instances that have it."""
        self.fixture.hello("b", Address.literal("10.0.0.2", 6379), 3)
        links: dict[int, InstanceLink] = {i.link.link_id: i.link for i in self.registry.instances()}
        for link in links.values():
            users = [i for i in self.registry.instances() if i.link is link]
            self.assertEqual({id(i) for i in users}, {id(i) for i in link.instances})

    def test_shared_peer(self) -> None:
        """One link serves a peer of both masters until the last one leaves it."""
        link = self.fixture.peer("b").link
        self.assertIs(link, self.other.peers[identity("b")].link)
        self.fixture.core.administration.remove("other", self.fixture.now)
        self.assertFalse(link.closed)
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        self.assertTrue(link.closed)

    def test_a_peer_moves_under_every_master(self) -> None:
        """A peer that moves has one new link for both masters."""
        moved = Address.literal("10.3.3.3", 26379)
        self.fixture.servers[moved] = FakeServer(moved, sentinel_id=identity("b").encode())
        self.fixture.kill(self.fixture.peer("b").address)
        self.fixture.core.hello_received(
            f"10.3.3.3,26379,{identity('b')},0,other,10.1.0.7,6379,0".encode(), self.fixture.now
        )
        self.fixture.finish()
        self.assertEqual("10.3.3.3", self.fixture.peer("b").address.ip)
        self.assertIs(self.fixture.peer("b").link, self.other.peers[identity("b")].link)

    def test_duplicates(self) -> None:
        """There is one replica per address, however it is spelled."""
        self.assertIsNone(self.registry.add_replica(self.fixture.master, Address.literal("10.0.0.2", 6379), 0))

    def test_credentials(self) -> None:
        """Servers get the credentials of their master, peers our own; new ones cause a reconnection."""
        changes = [("auth-pass", ["secret"])]
        self.fixture.core.administration.set_options(
            "mymaster", changes, self.fixture.now, lambda o, _, v, __: setattr(o, "auth_pass", v[0])
        )
        self.fixture.finish()
        self.assertEqual("secret", self.fixture.replica(2).link.password)
        self.assertIsNone(self.fixture.peer("b").link.password)
        cut = {e.link.link_id for _, e in self.fixture.sent if isinstance(e, Reconnect)}
        self.assertEqual({self.fixture.master.link.link_id, self.fixture.replica(2).link.link_id}, cut)
        self.assertIn("+set master mymaster 10.0.0.1 6379 auth-pass ******", self.fixture.output()[-1])
        self.fixture.options.sentinel_user, self.fixture.options.sentinel_pass = "me", "too"
        self.fixture.core.administration.options_changed(self.fixture.now, peers_log_in_anew=True)
        self.assertEqual(("me", "too"), (self.fixture.peer("b").link.username, self.fixture.peer("b").link.password))


class NameTests(SynchronousTestCase):
    """Host names."""

    def setUp(self) -> None:
        """Set up a core that accepts names."""
        self.fixture = Fixture()
        self.fixture.options.resolve_hostnames = True
        self.registry = self.fixture.core.registry

    def test_not_allowed(self) -> None:
        """Without resolve-hostnames a name is no address."""
        self.fixture.options.resolve_hostnames = False
        self.assertIsNone(self.registry.address("redis.example", 6379))

    def test_resolved_later(self) -> None:
        """A master with a name is connected once the name is resolved, and again when its IP changes."""
        master = self.fixture.core.administration.monitor("named", "redis.example", 6379, 1, self.fixture.now)
        pending = [type(effect) for _, effect in self.fixture.core.outbox.pending]
        self.assertIn(ResolveAddress, pending)
        self.assertNotIn(Connect, pending)
        self.fixture.finish()
        for ip in ("10.5.5.5", "10.5.5.6"):
            self.fixture.core.address_resolved(master.address, ip, self.fixture.now)
            self.fixture.finish()
            self.assertEqual((ip, "redis.example"), (master.link.address.ip, master.address.hostname))
        self.fixture.core.address_resolved(master.address, None, self.fixture.now)
        self.assertEqual("10.5.5.6", master.address.ip)

    def test_unresolved_replicas(self) -> None:
        """Two replicas with unresolved names are two."""
        for host in ("one.example", "two.example"):
            address = self.registry.address(host, 6379)
            assert address is not None
            self.assertIsNotNone(self.registry.add_replica(self.fixture.master, address, self.fixture.now))
        self.assertEqual(["one.example:6379", "two.example:6379"], list(self.fixture.master.replicas))
        self.assertEqual(MASTER, self.fixture.master.address)
