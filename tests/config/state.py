"""Hard state to save, and a host whose disk the test controls."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txsentinel.core.durable_records import DurableRecords
from txsentinel.core.instances import InstanceLink, Master, Peer, Replica
from txsentinel.core.link import LinkKind
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.model.address import Address, canonical_ip


def address(host: str, port: int, ip: str | None = None) -> Address:
    """Return a literal address, or a name that resolves to ``ip``."""
    return Address(host, canonical_ip(host) or ip or "", port)


def link_to(place: Address) -> InstanceLink:
    """Return a link that is never connected."""
    return InstanceLink(0, place, (LinkKind.COMMANDS,), 0)


def make_master(name: str, host: str = "10.0.0.1", port: int = 6379, quorum: int = 2) -> Master:
    """Return a master without replicas and peers."""
    place = address(host, port)
    return Master(name, place, link_to(place), 0, options=MasterOptions(quorum=quorum))


def add_replica(master: Master, place: Address) -> Replica:
    """Add a replica."""
    replica = Replica(place.joined(), place, link_to(place), 0, of=master)
    master.replicas[replica.name] = replica
    return replica


def add_peer(master: Master, run_id: str, place: Address) -> Peer:
    """Add a peer."""
    peer = Peer(run_id, place, link_to(place), 0, run_id=run_id, of=master)
    master.peers[run_id] = peer
    return peer


@dataclass
class FakeRegistry:
    """Masters by name."""

    masters: dict[str, Master] = field(default_factory=dict)


@dataclass
class FakeCore:
    """The state that a store reads of a core."""

    options: SentinelOptions = field(default_factory=lambda: SentinelOptions(my_id="f" * 40))
    current_epoch: int = 0
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    records: DurableRecords = field(default_factory=lambda: DurableRecords(lambda master: 0))

    def add(self, master: Master) -> Master:
        """Monitor a master."""
        self.registry.masters[master.name] = master
        return master


class FakeFiles:
    """Records write requests; the test fires the Deferreds."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, bytes, Deferred[str]]] = []
        self.probes: list[Deferred[str]] = []
        self.probed_sizes: list[int] = []
        self.reason = ""
        """The reason why files are overwritten in place, if they are."""

        self.finished = 0

    def probe(self, path: str, size: int) -> Deferred[str]:
        """Record the request."""
        self.probes.append(Deferred())
        self.probed_sizes.append(size)
        return self.probes[-1]

    def replace(self, path: str, contents: bytes) -> Deferred[str]:
        """Record the contents until :meth:`done` or :meth:`fail`."""
        waiting: Deferred[str] = Deferred()
        self.writes.append((path, contents, waiting))
        return waiting

    @property
    def pending(self) -> int:
        """Number of writes in progress."""
        return len(self.writes) - self.finished

    def done(self) -> str:
        """Let the oldest write in progress succeed; return its contents."""
        _, contents, waiting = self.writes[self.finished]
        self.finished += 1
        waiting.callback(self.reason)
        return contents.decode()

    def fail(self, error: Exception | None = None) -> None:
        """Let the oldest write in progress fail, by default because the disk is full."""
        waiting = self.writes[self.finished][2]
        self.finished += 1
        waiting.errback(error or OSError(28, "No space left on device"))


class FakeHost:
    """A host with a clock and a disk."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.files = FakeFiles()
        self.stopped: list[tuple[Failure, str]] = []

    def fail_stop(self, failure: Failure, what: str) -> None:
        """Record the failure."""
        self.stopped.append((failure, what))
