"""Announced addresses that cannot be used are logged once each, up to a limit."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core.ignored import MAX_WARNINGS, NAMES_NOT_RESOLVED, NO_ADDRESS


class IgnoredTests(SynchronousTestCase):
    """A master with a peer."""

    def setUp(self) -> None:
        """Set up a master that is up."""
        self.fixture = Fixture()
        self.fixture.add_peer("b")
        self.fixture.wait(500)
        self.fixture.output()

    def announced(self, *hosts: str) -> list[str]:
        """Return the log lines while INFO has replicas at these hosts, three times."""
        self.fixture.servers[MASTER].extra = [
            f"slave{number}:ip={host},port=6380,state=online,offset=1,lag=0" for number, host in enumerate(hosts)
        ]
        for _ in range(3):
            self.fixture.wait(10_100, 100)
        return [line.removeprefix("note ") for line in self.fixture.output() if line.startswith("note Ignored")]

    def test_replica(self) -> None:
        """One line for a name, one for an invalid host, each with the reason."""
        self.assertEqual(
            [
                f"Ignored a replica of mymaster at 'redis-2.example' port 6380: {NAMES_NOT_RESOLVED}",
                f"Ignored a replica of mymaster at 'two words' port 6380: {NO_ADDRESS}",
            ],
            self.announced("redis-2.example", "two words"),
        )
        self.assertEqual({}, self.fixture.master.replicas)

    def test_where_names_are_resolved(self) -> None:
        """A name is resolved with the option; an invalid host is not, and clients may not set it either."""
        self.fixture.options.resolve_hostnames = True
        lines = self.announced("redis-2.example", "two words", "a\x1bb")
        self.assertEqual(2, len(lines), lines)
        self.assertTrue(all(line.endswith(NO_ADDRESS) for line in lines), lines)
        self.assertEqual(["redis-2.example:6380"], list(self.fixture.master.replicas))

    def test_control_characters(self) -> None:
        """Hosts are escaped, and cut if too long."""
        first, second = self.announced("a\tb\x1b", "x" * 255)
        self.assertIn(r"'a\tb\x1b'", first)
        self.assertLess(len(second), 400)

    def test_peer(self) -> None:
        """A Sentinel at a name is ignored, and so is the name of a master in a peer's hello."""
        for _ in range(3):
            self.fixture.core.hello_received(f"name,26379,{identity('q')},0,mymaster,10.0.0.1,6379,0".encode(), 1)
            self.fixture.core.hello_received(f"10.0.1.98,26379,{identity('b')},1,mymaster,name,6379,1".encode(), 1)
        self.fixture.finish()
        self.assertEqual(
            [
                f"note Ignored Sentinel {identity('q')} of mymaster at 'name' port 26379: {NAMES_NOT_RESOLVED}",
                f"note Ignored the master mymaster in a hello of Sentinel {identity('b')} at 'name' port 6379:"
                f" {NAMES_NOT_RESOLVED}",
            ],
            [line for line in self.fixture.output() if line.startswith("note ")],
        )

    def test_bounded(self) -> None:
        """New names fill neither the log nor the memory; a reset allows them to be logged again."""
        lines = self.announced(*(f"name-{number}" for number in range(MAX_WARNINGS + 20)))
        self.assertEqual(MAX_WARNINGS + 1, len(lines))
        self.assertIn("no longer logged", lines[-1])
        self.assertEqual(MAX_WARNINGS + 1, len(self.fixture.master.ignored_addresses))
        self.fixture.core.administration.reset("*", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(1, len(self.announced("name-1")))
