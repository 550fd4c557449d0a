"""A server for tests: the real core, executor and barrier with fake clock, transports, store and scripts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.generic import GenericOptions
from txsentinel.core.effects import Connect, Effect, RequestId
from txsentinel.core.instances import InstanceLink, Master
from txsentinel.core.options import SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.runtime.executor import Executor
from txsentinel.server.context import ServerContext
from txsentinel.server.factory import SentinelServerFactory
from txsentinel.server.process_info import CpuUsage, ProcessInfo
from txsentinel.server.protocol import SentinelProtocol
from txsentinel.wire.replies import NEED_MORE, ReplyReader
from txsentinel.wire.resp import pack

MY_ID = "a" * 40
PEER_ID = "b" * 40


class FakeHost:
    """A fake host whose clock only moves when a test advances it."""

    pid = 4242

    def __init__(self) -> None:
        self.reactor = Clock()
        self.reactor.advance(1000)
        self.random = random.Random(1)
        self.failures: list[Failure] = []

    nested_poll_active = False

    @property
    def slack_clock(self) -> Clock:
        """The reactor: calls are never late here."""
        return self.reactor

    on_yield: Callable[[], None] | None = None
    """Called by :meth:`yield_to_clients`, in place of the clients that would be served between two steps."""

    def yield_to_clients(self) -> bool:
        """Run ``on_yield``, never nested in itself."""
        if self.on_yield is None or self.nested_poll_active:
            return False
        self.nested_poll_active = True
        self.on_yield()
        self.nested_poll_active = False
        return True

    def now(self) -> Millis:
        """Monotonic milliseconds; the clock starts at 1000 seconds."""
        return round(self.reactor.seconds() * 1000)

    def wall_clock(self) -> float:
        """A fixed date in 2026, advanced by the fake clock."""
        return 1_795_240_000.0 + self.reactor.seconds()

    def fail_stop(self, failure: Failure, what: str) -> None:
        """Record the failure."""
        self.failures.append(failure)


class FakeStore:
    """A fake store that records the generation to save; a test completes or fails the write."""

    def __init__(self) -> None:
        self.wanted = 0

    def note_dirty(self, names: Iterable[str | None]) -> None:
        """Ignored: the lines to write do not matter here."""

    def commit_soon(self, generation: int) -> None:
        """Record the generation that is to be saved."""
        self.wanted = max(self.wanted, generation)


class RecordingLinks:
    """Fake links that record their effects."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def perform(self, effect: Effect) -> None:
        """Record the effect."""
        self.effects.append(effect)

    def flush(self) -> None:
        """Do nothing: no effect is buffered."""


@dataclass
class FakeJob:
    """One entry of the script queue."""

    path: str
    arguments: tuple[str, ...] = ()
    pid: int | None = None
    started_at: Millis | None = None
    due_at: Millis | None = None
    attempts: int = 0


@dataclass
class FakeScripts:
    """A fake script queue."""

    jobs: list[FakeJob] = field(default_factory=list)

    @property
    def running(self) -> int:
        """Number of running scripts."""
        return sum(1 for job in self.jobs if job.started_at is not None)

    def enqueue(self, path: str, arguments: Iterable[str]) -> None:
        """Queue a script."""
        self.jobs.append(FakeJob(path, tuple(arguments)))


class MemoryTransport(StringTransport):
    """A transport in memory that reports ``connectionLost`` as soon as it is closed, and can block writes."""

    aborted = False

    def loseConnection(self) -> None:
        """Close after flushing."""
        if not self.disconnecting:
            super().loseConnection()
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """Close without flushing."""
        if not self.disconnecting:
            self.aborted = True
            self.disconnecting = True
            self.protocol.connectionLost(Failure(ConnectionAborted()))

    protocol: SentinelProtocol

    def forget_protocol(self) -> None:
        """Drop the reference to the protocol."""
        del self.protocol


class ServerHarness:
    """One server with its core and its fakes."""

    def __init__(
        self,
        options: GenericOptions | None = None,
        sentinel: SentinelOptions | None = None,
        host: FakeHost | None = None,
        keep_users: Callable[[Sequence[str]], None] = lambda lines: None,
        limits: Limits | None = None,
    ) -> None:
        self.host = host or FakeHost()
        self.notes: list[tuple[Level, str]] = []
        self.events: list[str] = []
        self.disk = FakeStore()
        self.links = RecordingLinks()
        self.scripts = FakeScripts()
        self.stopped = 0
        self.loglevels: list[str] = []
        own = sentinel or SentinelOptions()
        options = options or GenericOptions()
        options.requirepass = own.requirepass or options.requirepass
        own.my_id = MY_ID
        self.core = SentinelCore(own, Timings(), Limits(), lambda sides: 0)
        self.executor = Executor(
            self.host,  # type: ignore[arg-type]
            self.core,
            self.publish,
            lambda level, line: self.notes.append((level, line)),
            self.scripts,
        )
        self.executor.connect(self.links, self.disk, lambda: None)
        self.context = ServerContext(
            core=self.core,
            barrier=self.executor.barrier,
            scripts=self.scripts,
            host=self.host,  # type: ignore[arg-type]
            keep_users=keep_users,
            turn=self.executor.drain,
            shutdown=self.stop,
            change_loglevel=self.loglevels.append,
            executable=lambda path: path.startswith("/good/"),
            options=options,
            limits=limits or Limits(),
            process_info=ProcessInfo(
                "9.9",
                "f" * 40,
                "/opt/txsentinel",
                "Linux 6.1 x86_64",
                "12.2.0",
                64,
                lambda: CpuUsage(1.5, 2.25, 0.0, 0.0, 1.0, 2.0),
            ),
            config_path="/etc/sentinel.conf",
            started_at=self.host.now() - 90_000_000,
        )
        self.factory = SentinelServerFactory(self.context)
        self._port = 40_000

    def publish(self, event: SentinelEvent) -> None:
        """Publish an event as the service does, without its event plug-ins."""
        self.events.append(str(event))
        if event.published:
            self.context.hub.publish(event.channel, event.payload)

    def stop(self) -> None:
        """Count the calls of SHUTDOWN."""
        self.stopped += 1

    def connect(self, peer: IAddress | None = None) -> RawConnection:
        """Connect a new client; each one has a port of its own."""
        self._port += 1
        address = peer or IPv4Address("TCP", "127.0.0.1", self._port)
        own = IPv4Address("TCP", "127.0.0.1", 26379)
        protocol = self.factory.buildProtocol(address)
        wire = MemoryTransport(peerAddress=address, hostAddress=own)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return RawConnection(protocol, wire, self.host.reactor)

    def watch(self, name: str = "mymaster", port: int = 6379, quorum: int = 2) -> Master:
        """Monitor a master, as if the configuration file declared it."""
        master = self.core.administration.monitor(name, "127.0.0.1", port, quorum, self.host.now())
        self.commit_all()
        return master

    def commit_all(self) -> None:
        """Save all changes and forget the events so far."""
        self.executor.drain()
        self.executor.committed(self.core.outbox.generation)
        self.events.clear()

    def save(self) -> None:
        """Complete the writes that were requested."""
        self.executor.committed(self.disk.wanted)

    def fail(self) -> None:
        """Fail the writes that were requested."""
        self.executor.commit_failed(self.disk.wanted, OSError(28, "No space left on device"))

    def bring_up(self, link: InstanceLink) -> None:
        """Establish all connections of a link."""
        for kind in link.kinds:
            self.core.link_up(link, kind, "127.0.0.1", self.host.now())
        assert link.commands_up

    def confirm(self, peer_id: str) -> None:
        """Connect to the Sentinel of the latest hello and let it confirm its ID."""
        self.executor.drain()
        link = next(each.link for each in reversed(self.links.effects) if isinstance(each, Connect))
        self.bring_up(link)
        self.executor.drain()
        assert isinstance(self.links.effects[-1], RequestId)
        self.core.id_reply(link, peer_id.encode(), self.host.now())
        self.executor.drain()


class RawConnection:
    """The client's end of a connection."""

    def __init__(self, protocol: SentinelProtocol, wire: MemoryTransport, reactor: Clock) -> None:
        self.protocol = protocol
        self.wire = wire
        self.reactor = reactor

    def send(self, *words: bytes | str | int) -> None:
        """Send one command."""
        self.protocol.dataReceived(pack(*words))

    def raw(self) -> bytes:
        """Return the bytes received since the last call, including the events of this turn."""
        self.reactor.advance(0)
        value = self.wire.value()
        self.wire.clear()
        return bytes(value)

    def block_output(self) -> None:
        """Have the transport accept no more output, as when the client does not read."""
        producer = self.wire.producer
        assert producer is not None
        producer.pauseProducing()

    def unblock_output(self) -> None:
        """Have the transport accept output again."""
        producer = self.wire.producer
        assert producer is not None
        producer.resumeProducing()

    def ask(self, *words: bytes | str | int) -> bytes:
        """Send one command and return the bytes that arrive at once."""
        self.send(*words)
        return self.raw()

    def replies(self) -> list[object]:
        """Return the replies received since the last call, parsed."""
        reader = ReplyReader(Limits(), resp3=True)
        reader.feed(self.raw())
        found: list[object] = []
        while (reply := reader.next_reply()) is not NEED_MORE:
            found.append(reply)
        return found

    def reply(self, *words: bytes | str | int) -> object:
        """Send one command and return its only reply, parsed."""
        self.send(*words)
        replies = self.replies()
        assert len(replies) == 1, replies
        return replies[0]

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return bool(self.wire.disconnecting)


class ServerTestCase(SynchronousTestCase):
    """A server with one watched master and one client."""

    def setUp(self) -> None:
        """Connect the client."""
        self.harness = ServerHarness()
        self.master = self.harness.watch()
        self.client = self.harness.connect()

    def refused(self, line: str, *words: bytes | str | int) -> None:
        """Assert that the command is refused with exactly this error."""
        self.assertEqual(self.client.ask(*words), b"-" + line.encode() + b"\r\n", words)
