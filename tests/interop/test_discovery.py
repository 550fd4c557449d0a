"""etcd, templates and HAProxy, which follow one failover of three real Sentinels in all ways."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import TestCase

from examples.consul import ConsulStore
from examples.etcd import EtcdStore
from examples.failover import Failover, run
from examples.haproxy import ALL_WAYS, ChainWay, HaproxyWay
from examples.templates import RenderedFiles
from tests.servers import missing
from txsentinel.demo.other_programs import find_program

ABSENT = [name for name in ("etcd", "etcdctl", "haproxy") if find_program(name) is None]


class DiscoveryTests(TestCase):
    """What each other side has when the failover is over."""

    if missing("valkey") or ABSENT:
        skip = missing("valkey") or f"not on this machine: {', '.join(ABSENT)}"

    ways: ClassVar[list[HaproxyWay]]
    files: ClassVar[RenderedFiles]
    consul: ClassVar[ConsulStore]
    failover: ClassVar[Failover]
    keys: ClassVar[dict[str, str]]
    logs: ClassVar[list[str]]

    @classmethod
    def setUpClass(cls) -> None:
        """Run the failover; the connections to the former master stay open."""
        super().setUpClass()
        cls.ways, cls.files, cls.consul = [way() for way in ALL_WAYS], RenderedFiles(), ConsulStore()
        run([*cls.ways, cls.files, cls.consul], print, cls.finish, freeze=True)

    @classmethod
    def finish(cls, failover: Failover) -> None:
        """Keep what is checked after the end."""
        cls.failover = failover
        cls.keys = cls.store().running().values("/")
        cls.logs = [sentinel.log_text() for sentinel in failover.fleet.sentinels]

    @classmethod
    def store(cls) -> EtcdStore:
        """Return the etcd."""
        return next(way.store for way in cls.ways if isinstance(way, ChainWay))

    def test_new_connections(self) -> None:
        """Through each HAProxy, new connections lead to the new master first of all other servers."""
        port = int(self.failover.new.rpartition(":")[2])
        self.assertEqual([way.arrivals.values for way in self.ways], [[port]] * len(self.ways))

    def test_old_connections(self) -> None:
        """Each HAProxy closes the connection to the former master, although that one does not."""
        self.assertEqual([way.title for way in self.ways if way.closed_at is None], [])

    def test_keys(self) -> None:
        """etcd has the new address, and the client that waited for changes in the place of Consul got each once."""
        self.assertEqual(self.keys["/txsentinel/mymaster/master"], self.failover.new)
        self.assertEqual(self.consul.arrivals.values, [self.failover.old, self.failover.new])

    def test_files(self) -> None:
        """The file of each Sentinel has had both addresses, in their order."""
        for sentinel in range(3):
            had = [
                value[1] for value in self.files.arrivals.values if isinstance(value, tuple) and value[0] == sentinel
            ]
            self.assertEqual(had, [self.failover.old, self.failover.new])

    def test_logs(self) -> None:
        """Nothing has failed with a bug, and connections are not logged."""
        for words in ("Traceback", "Unhandled", "Starting factory"):
            self.assertEqual([log for log in self.logs if words in log], [])
