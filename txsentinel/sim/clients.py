"""
An application beside each Sentinel. It pipelines commands and checks that replies arrive in order.

It also sends operators' commands, on the same connection, between its own.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.protocol import ClientFactory, Protocol, connectionDone

from txsentinel.sim.groups import SimMaster
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.values import Failed, Word
from txsentinel.sim.wiretap import Frames
from txsentinel.wire.resp import pack

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, ITCPTransport, ITransport
    from twisted.python.failure import Failure

TIMEOUT: Final = 30
"""Beats without a reply after which a connection is closed: its other end may have lost its power."""

PERIOD: Final = 1.0
"""Seconds between two pipelines, and between two connection attempts."""

SENTINEL_PORT: Final = 26379

OnReply = Callable[[Word], None]


class _Conversation(Protocol):
    """One connection: a FIFO of expected replies."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        self._frames = Frames()
        self.awaiting: deque[tuple[tuple[str, ...], OnReply]] = deque()

    def connectionMade(self) -> None:
        """The connection is usable."""
        self._client.conversation = self

    def send(self, commands: list[tuple[tuple[str, ...], OnReply]]) -> None:
        """Send several commands in one write."""
        self.awaiting.extend(commands)
        cast("ITransport", self.transport).write(b"".join(pack(*words) for words, _ in commands))

    def dataReceived(self, data: bytes) -> None:
        """Match replies to requests, the oldest first."""
        for reply in self._frames.feed(data):
            if not self.awaiting:
                self._client.report_violation(False, f"received {reply!r} without a request")
                continue
            self.awaiting.popleft()[1](reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop the requests that were not answered."""
        if self._client.conversation is self:
            self._client.conversation = None


class _Factory(ClientFactory[_Conversation]):
    noisy = False

    def __init__(self, client: SimClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> _Conversation:
        """Build the protocol of a connection."""
        return _Conversation(self._client)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Retry later."""
        self._client.connecting = False

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Retry later."""
        self._client.connecting = False


class SimClient:
    """
    A client that sends pipelines to one Sentinel without end; ``served`` counts the pipelines answered in full.

    :param report: called with ``(whether a reply was right, what happened)`` for each reply.
    """

    def __init__(
        self,
        simulation: Simulation,
        network: SimNetwork,
        target: SimHost,
        masters: list[SimMaster],
        report: Callable[[object, str], None],
    ) -> None:
        self._masters = masters
        self._report = report
        self.target = target
        number = target.ip.rpartition(".")[2]
        self.host = SimHost(simulation, network, f"client{number}", f"10.0.9.{number}", self._program)
        self.conversation: _Conversation | None = None
        self.connecting = False
        self.served = 0
        self._pipelines = 0
        self._silent = 0

    def order(self, *words: str) -> None:
        """Send an operator's command if there is a connection. The reply is not awaited."""
        if self.conversation is not None:
            self.conversation.send([(words, lambda reply: None)])

    def report_violation(self, holds: object, what: str) -> None:
        """Report a reply that differs from the expected one."""
        self._report(holds, f"{self.host.name} {what}")

    def _program(self, host: SimHost) -> None:
        self._beat()

    def _beat(self) -> None:
        self.host.reactor.callLater(PERIOD, self._beat)
        if not self.connecting:
            self.connecting = True
            self.host.reactor.connectTCP(self.target.ip, SENTINEL_PORT, _Factory(self), timeout=PERIOD)
        elif self.conversation is not None and not self.conversation.awaiting:
            self._silent = 0
            self._pipeline(self.conversation)
        elif self.conversation is not None:
            self._silent += 1
            if self._silent > TIMEOUT:
                self._silent = 0
                cast("ITCPTransport", self.conversation.transport).abortConnection()

    def _pipeline(self, conversation: _Conversation) -> None:
        """Send queries of several kinds, one that waits for the disk among them, with numbered PINGs between."""
        self._pipelines += 1
        mark = f"{self._pipelines}"
        master = self.host.random.choice(self._masters)
        name, first = master.name, master.servers[0].host.ip
        questions: list[tuple[tuple[str, ...], Callable[[Word], bool]]] = [
            (("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), lambda reply: reply is None or _is_list(reply, 2)),
            (("SENTINEL", "MASTER", name), lambda reply: isinstance(reply, Failed) or _is_map(reply)),
            (("SENTINEL", "MYID"), lambda reply: isinstance(reply, bytes) and len(reply) == 40),
            (("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", first, "6379", "0", "*"), lambda reply: _is_list(reply, 3)),
            (("SENTINEL", "CKQUORUM", name), lambda reply: isinstance(reply, bytes)),
        ]
        if self.host.random.random() < 0.1:
            questions.append((("SENTINEL", "FLUSHCONFIG"), lambda reply: isinstance(reply, Failed) or reply == b"OK"))
        self.host.random.shuffle(questions)
        commands: list[tuple[tuple[str, ...], OnReply]] = []
        for number, (words, right) in enumerate(questions[:3]):
            commands.append((words, self._expecting(words, right)))
            ping = f"{mark}/{number}"
            commands.append((("PING", ping), self._expecting(("PING", ping), _equals(ping.encode()))))
        commands.append((("PING", mark), self._finished(mark)))
        conversation.send(commands)

    def _expecting(self, words: tuple[str, ...], right: Callable[[Word], bool]) -> OnReply:
        return lambda reply: self.report_violation(right(reply), f"sent {' '.join(words)} and received {reply!r}")

    def _finished(self, mark: str) -> OnReply:
        def check_mark(reply: Word) -> None:
            self.report_violation(reply == mark.encode(), f"received {reply!r} at the end of its pipeline {mark}")
            self.served += 1

        return check_mark


def _is_list(reply: Word, length: int) -> bool:
    return isinstance(reply, list) and len(reply) == length


def _is_map(reply: Word) -> bool:
    return isinstance(reply, list) and len(reply) % 2 == 0 and reply[0] == b"name"


def _equals(wanted: bytes) -> Callable[[Word], bool]:
    return lambda reply: reply == wanted
