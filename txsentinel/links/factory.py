"""Keeping one connection up: when to try again, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.links.context import LinkContext
from txsentinel.links.protocols import CommandLink, Connection, PubSubLink
from txsentinel.model.log_text import DistinctLineThrottle
from txsentinel.model.timings import Millis

SHORTEST_BEAT: Final[Millis] = 100
SPACING: Final[Millis] = 2
"""How much later each link that fails lets the others try again: so many knock at most, however many are gone."""

TIMEOUT: Final = 5
"""Ping periods that may pass between two attempts at a server that is S_DOWN already, with very many gone."""

ConnectionType = TypeVar("ConnectionType", bound=Connection)

SHORTEST_TIMEOUT: Final = 1.0
MAX_TIMEOUT: Final = 5.0
"""
Seconds. Kernels repeat an unanswered SYN after one second, then at growing intervals; attempts that are
soon given up and made anew notice a healed network earlier.
"""


class LinkFactory(ReconnectingClientFactory, Generic[ConnectionType]):
    """
    Keeps one connection of one link up, with a steady beat.

    Attempts begin a ping period apart: sooner if down-after is so short that nobody could be found back before it
    has passed, later if very many servers are gone. A connection that was established and is lost is made anew at
    once, but not before a ping period after it was made: whoever accepts us only to hang up must not be
    stormed.
    """

    noisy = False
    factor = 1.0
    jitter = 0.0

    _log = Logger()

    def __init__(
        self,
        context: LinkContext,
        link: InstanceLink,
        kind: LinkKind,
        build: Callable[[LinkFactory[ConnectionType]], ConnectionType],
        gone: Callable[[LinkFactory[ConnectionType]], None],
    ) -> None:
        """
        Build one that does nothing before :meth:`start`.

        :param build: makes the protocol of an established connection.
        :param gone: called once the last connection is closed after :meth:`retire`.
        """
        self.clock: Any = context.host.reactor
        self.link = link
        self.kind = kind
        self.connection: ConnectionType | None = None
        """What commands can be sent on; ``None`` while there is nothing."""

        self._context = context
        self._build = build
        self._gone = gone
        self.follower: LinkFactory[PubSubLink] | None = None
        """The factory of the same link that need not try while this one fails."""

        self._leader: LinkFactory[CommandLink] | None = None
        self._asleep = False
        self._begun = False
        self._untried = True
        """No attempt was begun since the connection was lost, or ever."""

        self._attempted_at: Millis = 0
        self._lingering: ConnectionType | None = None
        self._refused: dict[str, tuple[str, str]] = {}
        """The commands that were last answered by an error, with the error and the line that was logged of it."""

        self._lines = DistinctLineThrottle()

    @property
    def open(self) -> bool:
        """Is there still a connection, if only one that is closing?"""
        return self.connection is not None or self._lingering is not None

    def start(self) -> None:
        """Connect, and keep connected. Without an address there is nothing to connect to."""
        address = self.link.address
        if not self._begun and self.continueTrying and address.resolved and address.port:
            self._begun = True
            self._begin(self._connect)

    def follow(self, leader: LinkFactory[CommandLink]) -> None:
        """Do not knock where ``leader`` found nobody: with many servers gone that is half of all attempts."""
        self._leader = leader

    def wake(self) -> None:
        """The leader is connected."""
        if self._asleep:
            self._asleep = False
            self._retry_in(0)

    def connect(self) -> None:
        """Make another attempt, once the throttle lets it begin."""
        self._begin(self.connector.connect)

    def reconnect(self, reason: str) -> None:
        """Close what there is and connect anew at once; an attempt that is under way goes on."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self._lingering = connection
            connection.reconnect(reason)
        elif self._callID is not None:
            self._callID.cancel()
            self._retry_in(0)
        elif self._asleep:
            self.wake()
        else:
            self.start()

    def retire(self) -> None:
        """Never connect again, close what there is, and say no more to the core."""
        self._context.failing.discard(self)
        self._context.throttle.end(self)
        self.stopTrying()  # type: ignore[no-untyped-call]
        connection, self.connection = self.connection, None
        if connection is not None:
            self._lingering = connection
            connection.retire()
        if not self.open:
            self._gone(self)

    def command_refused(self, command: str, error: str | None, line: str = "") -> None:
        """
        Log ``line`` when the other side begins to answer ``command`` with ``error``, not at every attempt.

        :param error: the server's words, a bounded excerpt of them; ``None`` once it accepts the command.
        """
        before = self._refused.get(command)
        if error is None:
            if before is not None:
                del self._refused[command]
                self._lines.reset(before[1])
        elif before is None or before[0] != error:
            self._refused[command] = error, line
            if self.should_log(line):
                self._log.warn("{line}", line=line)

    def is_refused(self, command: str, code: str) -> bool:
        """Whether ``command`` was last answered by an error that begins with ``code``."""
        error = self._refused.get(command)
        return error is not None and error[0].split(" ", 1)[0] == code

    def should_log(self, text: str) -> bool:
        """Should this be logged? Who misbehaves does so at every attempt, that is, once a second for days."""
        lines = self._lines if self.link.instances else self._context.unconfirmed_lines
        return lines.allow(text, self._context.host.now())

    # What the reactor asks and tells.

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt begins."""
        self.connector: Any = connector
        self._attempted_at = now = self._context.host.now()
        self._untried = False
        if self.kind is LinkKind.COMMANDS and self.link.attempt_waiting:
            self.link.attempt_begun(now)

    def buildProtocol(self, addr: IAddress | None) -> ConnectionType | None:
        """A connection is established, handshake included; ``None`` if it is not wanted any more."""
        self._context.throttle.end(self)
        if not self.continueTrying:
            return None
        connection = self._build(self)
        connection.factory = self
        self.connection = connection
        self._context.failing.discard(self)
        if self.follower is not None:
            self.follower.wake()
        return connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """An attempt failed: the next one begins a beat after this one began."""
        self._context.throttle.end(self)
        now = self._context.host.now()
        if self.continueTrying:
            if self._leader is not None and self._leader.connection is None:
                self._asleep = True
            else:
                self._context.failing.add(self)
                self._retry_in(max(0, self._attempted_at + self._beat() - now))
            self._down(reason.getErrorMessage(), now)

    def clientConnectionLost(self, connector: IConnector, unused_reason: Failure) -> None:
        """A connection is gone, for whatever reason."""
        recycled = self.connection is None
        connection = self.connection or self._lingering
        self.connection = self._lingering = None
        self._untried = True
        if not self.continueTrying:
            self._gone(self)
            return
        now = self._context.host.now()
        assert connection is not None, "a connection was lost that nobody made"
        period = self._context.core.timings.ping_period
        # Counted from its beginning: a server that is told to change its role soon after it came back hangs up on
        # us, and must not be held for down because of that.
        self._retry_in(0 if recycled else max(0, connection.connected_at + period - now))
        self._down(connection.offence or unused_reason.getErrorMessage(), now)

    def _begin(self, connect: Callable[[], object]) -> None:
        """Begin an attempt, or have it wait until the outcome of others is known. Peers are few and never wait."""
        if LinkKind.PUBSUB not in self.link.kinds:
            connect()
        elif not self._context.throttle.begin(self, connect) and self.kind is LinkKind.COMMANDS:
            self.link.attempt_waiting = self._untried

    def _connect(self) -> None:
        """Make the first attempt; the others repeat it, with the same wrapping."""
        address = self.link.address
        source = self._context.options.bind_source_addr
        wrapped: ClientFactory = self
        if self._context.secure is not None:
            wrapped = self._context.secure(self, lambda: self.link.address, self._timeout())
        dial = self._context.dial if LinkKind.PUBSUB in self.link.kinds else self._context.connect_peer
        dial(
            address.ip,
            address.port,
            wrapped,
            timeout=self._timeout(),
            bindAddress=(source, 0) if source else None,
        )

    def _beat(self) -> Millis:
        """How long after a failed attempt the next one begins."""
        period, link = self._context.core.timings.ping_period, self.link
        if link.sdown_instances:
            shortest, longest = period, TIMEOUT * period
        else:
            third = link.shortest_down_after // 3
            shortest, longest = min(period, max(SHORTEST_BEAT, third)), max(period, third)
        return max(shortest, min(longest, SPACING * len(self._context.failing)))

    def _timeout(self) -> float:
        """Seconds until an attempt without an answer is given up: two ping periods, within reason."""
        return min(max(2 * self._context.core.timings.ping_period / 1000, SHORTEST_TIMEOUT), MAX_TIMEOUT)

    def _retry_in(self, delay: Millis) -> None:
        self.delay = delay / 1000
        self.retry(self)  # type: ignore[no-untyped-call]

    def _down(self, reason: str, now: Millis) -> None:
        if not self.link.closed:
            self._context.core.link_down(self.link, self.kind, reason, now)
            self._context.told()

    @property
    def _destination(self) -> str:
        return self.link.address.joined()


AnyLinkFactory: TypeAlias = "LinkFactory[CommandLink] | LinkFactory[PubSubLink]"


def command_factory(
    context: LinkContext, link: InstanceLink, gone: Callable[[LinkFactory[CommandLink]], None]
) -> LinkFactory[CommandLink]:
    """A factory for the command connection of ``link``."""
    return LinkFactory(context, link, LinkKind.COMMANDS, lambda factory: CommandLink(context, link), gone)


def pubsub_factory(
    context: LinkContext, link: InstanceLink, gone: Callable[[LinkFactory[PubSubLink]], None]
) -> LinkFactory[PubSubLink]:
    """A factory for the subscription of ``link``."""
    return LinkFactory(context, link, LinkKind.PUBSUB, lambda factory: PubSubLink(context, link), gone)
