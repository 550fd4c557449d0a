"""Host names: resolution without waiting, failures, and changed addresses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import FakeServer, Fixture
from txsentinel.core.errors import InvalidAddress
from txsentinel.core.instances import Master
from txsentinel.model.address import Address


class HostnameTests(SynchronousTestCase):
    """A core with ``resolve-hostnames yes``."""

    def setUp(self) -> None:
        """Set up a fixture in which ``db.example`` is not resolved yet."""
        self.fixture = Fixture()
        self.fixture.options.resolve_hostnames = True
        self.fixture.servers[Address("db.example", "10.0.0.7", 6379)] = FakeServer(
            Address("db.example", "10.0.0.7", 6379)
        )

    def monitor(self) -> Master:
        """Monitor a master by name."""
        master = self.fixture.core.administration.monitor("named", "db.example", 6379, 1, self.fixture.now)
        self.fixture.finish()
        return master

    def test_a_name_is_looked_up_before_it_is_connected_to(self) -> None:
        """There is no IP until the name is resolved; then there is a connection."""
        master = self.monitor()
        self.assertIn("resolve db.example", self.fixture.output())
        self.assertEqual((master.address.ip, master.link.commands_up), ("", False))
        self.fixture.core.address_resolved(master.address, "10.0.0.7", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(master.address, Address("db.example", "10.0.0.7", 6379))
        self.assertTrue(master.link.commands_up)

    def test_names_are_refused_unless_allowed(self) -> None:
        """Without the option a name is no address."""
        self.fixture.options.resolve_hostnames = False
        self.assertRaises(InvalidAddress, self.monitor)

    def test_failed_resolution_changes_nothing(self) -> None:
        """A name that cannot be resolved any more changes nothing."""
        master = self.monitor()
        self.fixture.core.address_resolved(master.address, "10.0.0.7", self.fixture.now)
        self.fixture.finish()
        self.fixture.core.address_resolved(master.address, None, self.fixture.now)
        self.fixture.finish()
        self.assertEqual(master.address.ip, "10.0.0.7")
        self.assertTrue(master.link.commands_up)

    def test_changed_ip(self) -> None:
        """A lost connection causes resolution, once per ping period; a new IP means a new link."""
        master = self.monitor()
        self.fixture.core.address_resolved(master.address, "10.0.0.7", self.fixture.now)
        self.fixture.finish()
        self.fixture.output()
        old = master.link
        self.fixture.kill(master.address)
        self.fixture.kill(master.address)
        self.assertEqual([line for line in self.fixture.output() if line.startswith("resolve")], ["resolve db.example"])
        self.fixture.servers[Address("db.example", "10.0.0.8", 6379)] = FakeServer(
            Address("db.example", "10.0.0.8", 6379)
        )
        before = self.fixture.core.outbox.generation
        self.fixture.core.address_resolved(master.address, "10.0.0.8", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(master.address.ip, "10.0.0.8")
        self.assertTrue(old.closed)
        self.assertTrue(master.link.commands_up)
        self.assertGreater(self.fixture.core.outbox.generation, before, "the file has the IP")
        self.fixture.wait(2_000, 100)
        self.assertIsNone(master.sdown_since)

    def test_peers_query_by_name_or_address(self) -> None:
        """A question about our master is accepted with its name in any letter case and with its IP."""
        master = self.monitor()
        self.fixture.core.address_resolved(master.address, "10.0.0.7", self.fixture.now)
        find = self.fixture.core.registry.by_address
        self.assertIs(find("DB.example", 6379), master)
        self.assertIs(find("10.0.0.7", 6379), master)
        self.assertIsNone(find("db.example", 6380))

    def test_announced_names(self) -> None:
        """With ``announce-hostnames`` events, hellos and orders have the name."""
        self.fixture.options.announce_hostnames = True
        master = self.monitor()
        self.assertIn("event +monitor master named db.example 6379 quorum 1", self.fixture.output())
        self.fixture.core.address_resolved(master.address, "10.0.0.7", self.fixture.now)
        self.fixture.finish()
        self.fixture.wait(2_500, 100)
        payloads = [payload for instance, payload in self.fixture.payloads if instance is master]
        self.assertIn(b"named,db.example,6379", payloads[-1])
