"""Maintains one connection: reconnects it, and reports its state to the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.core.instances import InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.links.command_link import CommandLink
from txsentinel.links.connection import LinkConnection
from txsentinel.links.context import LinkContext
from txsentinel.links.failures import class_of_connection, text_of_connection
from txsentinel.links.pubsub_link import PubSubLink
from txsentinel.links.reconnecting import link_machine
from txsentinel.model.failure import FailureClass, class_of_reply
from txsentinel.model.log_throttle import DistinctLineThrottle
from txsentinel.model.timings import Millis

MIN_RETRY_INTERVAL: Final[Millis] = 100
RETRY_SPACING: Final[Millis] = 2
"""Milliseconds that each failing link adds to the retry interval. This limits the rate of attempts of all links."""

RESTART_PERIOD: Final[Millis] = 2_000
"""How long after the loss of a master's connection a refused attempt is repeated soon."""

RESTART_RETRY_INTERVAL: Final[Millis] = 20
"""
Retry interval meanwhile with ``empty-restart-failover on``. A supervisor restarts a dead master within this time, and
if it restarts without its data, its replicas copy that as soon as they reconnect, which each tries once a second.
"""

MAX_RETRY_PERIODS: Final = 5
"""Maximum retry interval in ping periods to a server that is S_DOWN already, while very many servers are down."""

ConnectionType = TypeVar("ConnectionType", bound=LinkConnection)

MIN_TIMEOUT: Final = 1.0
MAX_TIMEOUT: Final = 5.0
"""
Seconds. Kernels repeat an unanswered SYN after one second, then at growing intervals. Short attempts that are
repeated notice earlier that the network works again.
"""


class LinkFactory(ReconnectingClientFactory, Generic[ConnectionType]):
    """
    Maintains one connection of one link, with a constant retry interval.

    Attempts begin one ping period apart: earlier if down-after is so short that a server could not be reached again
    before it has passed, later if very many servers are down. A lost connection is made again at once, but not earlier
    than one ping period after it was made, so that a server that accepts and closes at once is not flooded.

    The base class holds the connector, and schedules and abandons attempts. When one is due depends on more than the
    number of failures, so each is scheduled by a state machine instead of by exponential back-off.
    """

    noisy = False
    factor = 1.0
    jitter = 0.0

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        context: LinkContext,
        link: InstanceLink,
        kind: LinkKind,
        build: Callable[[LinkContext, InstanceLink], ConnectionType],
        gone: Callable[[LinkFactory[ConnectionType]], None],
    ) -> None:
        """
        Build a factory that does nothing before :meth:`start`.

        :param build: makes the protocol of an established connection.
        :param gone: called when the last connection is closed after :meth:`retire`.
        """
        self.clock: Any = context.host.reactor
        self.connector: Any = None
        self.link = link
        self.kind = kind
        self.connection: ConnectionType | None = None
        """The connection that commands can be sent on; ``None`` while there is none."""

        self._context = context
        self._build = build
        self._gone = gone
        self._follower: LinkFactory[Any] | None = None
        """The factory of the same link that makes no attempts while this one fails."""

        self._leader: LinkFactory[CommandLink] | None = None
        self._untried = True
        """Whether no attempt was begun since the connection was lost, or ever."""

        self._attempted_at: Millis = 0
        self._failure: FailureClass | None = None
        """Why the last attempt failed or the connection was lost; ``None`` if this side closed it without a failure."""

        self._lost_at: Millis | None = None
        """When a connection was last lost that had existed for ``MIN_RETRY_INTERVAL``."""

        self._established: ConnectionType | None = None
        """The connection, including one that is closing."""

        self._refused: dict[str, tuple[str, str]] = {}
        """The commands whose last reply was an error, each with the error and the log line about it."""

        self._lines = DistinctLineThrottle()
        self._machine = link_machine(self)

    def start(self) -> None:
        """Connect, and reconnect from now on. Do nothing while the link has no resolved address and port."""
        address = self.link.address
        if address.resolved and address.port:
            self._machine.start()

    def follow(self, leader: LinkFactory[CommandLink]) -> None:
        """Make no attempts while those of ``leader`` fail. This halves the attempts while many servers are down."""
        self._leader = leader
        leader.followed_by(self)

    def followed_by(self, follower: LinkFactory[Any]) -> None:
        """Notify ``follower`` of each new connection; called by its :meth:`follow`."""
        self._follower = follower

    def leader_connected(self) -> None:
        """Make the attempt that waits for the leader's connection."""
        self._machine.leader_connected()

    def reconnect(self, reason: str) -> None:
        """Close the present connection and connect again at once; an attempt that is under way continues."""
        self._machine.reconnect(reason)
        self.start()

    def retire(self) -> None:
        """Close the connection, stop reconnecting, and report nothing more to the core."""
        self._context.failing.discard(self)
        self._context.throttle.end(self)
        self._machine.retire()

    def command_refused(self, command: str, error: str, line: str) -> None:
        """
        Log ``line`` when the server begins to answer ``command`` with ``error``, not at every attempt.

        :param error: a bounded excerpt of the server's error.
        """
        before = self._refused.get(command)
        if before is None or before[0] != error:
            self._refused[command] = error, line
            if command != "SUBSCRIBE":  # its connection is closed then, which counts
                self._context.count_failure(self.link, class_of_reply(error))
            if self.should_log(line):
                self._log.warn("{line}", line=line)

    def command_accepted(self, command: str) -> None:
        """Log that ``command`` is accepted after it was refused."""
        before = self._refused.pop(command, None)
        if before is not None:
            self._lines.reset(before[1])
            line = f"{self.instance_text()} accepts {command} again"
            if self.should_log(line):
                self._log.info("{line}", line=line)

    def instance_text(self) -> str:
        """Return the first instance of the link as the log names it; without one, the address."""
        if self.link.instances:
            return self.link.first.describe(self._context.core.options.announce_hostnames)
        return self.link.address.joined()

    def is_refused(self, command: str, code: str) -> bool:
        """Whether ``command`` was last answered by an error that begins with ``code``."""
        error = self._refused.get(command)
        return error is not None and error[0].split(" ", 1)[0] == code

    def should_log(self, text: str) -> bool:
        """Whether this line is due. A faulty server repeats its fault at every attempt, once a second for days."""
        lines = self._lines if self.link.instances else self._context.unconfirmed_lines
        return lines.allow(text, self._context.host.now())

    def connect(self) -> None:
        """Make the scheduled attempt; called by :meth:`retry`, which takes the factory for its connector."""
        self._machine.due()

    # Called by the reactor.

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt begins."""
        self.connector = connector
        self._attempted_at = now = self._context.host.now()
        self._untried = False
        if self.kind is LinkKind.COMMANDS and self.link.attempt_waiting:
            self.link.attempt_begun(now)

    def buildProtocol(self, addr: IAddress | None) -> ConnectionType | None:
        """Return the protocol of an established connection, or ``None`` after :meth:`retire`."""
        self._context.throttle.end(self)
        self._machine.established(self._build(self._context, self.link))
        return self.connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Schedule the next attempt, and report the failure to the core."""
        self._context.throttle.end(self)
        now = self._context.host.now()
        self._failure = class_of_connection(reason)
        if self._leader is not None and self._leader.connection is None:
            self._machine.failed_like_leader(text_of_connection(reason), now)
        else:
            self._machine.failed(text_of_connection(reason), now)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Schedule the next attempt, and report the loss to the core."""
        established = self._established
        self.connection = None
        self._untried = True
        close_reason = None
        self._failure = class_of_connection(reason)
        # There was none if the attempt succeeded after the link was retired.
        if established is not None and established.close_reason:
            close_reason, self._failure = established.close_reason, established.failure
        self._machine.lost(close_reason or text_of_connection(reason), self._context.host.now())

    # Called by the machine, see ``reconnecting.Actions``.

    def begin_first(self) -> None:
        """Make the first attempt as soon as the throttle allows it."""
        self._begin(self._connect)

    def begin_next(self) -> None:
        """Make another attempt as soon as the throttle allows it."""
        self._begin(self.connector.connect)

    def abort_attempt(self) -> None:
        """Cancel the attempt that is under way; :meth:`retire` has removed one that is queued."""
        self.stopTrying()  # type: ignore[no-untyped-call]

    def schedule_attempt(self, delay: Millis) -> None:
        """Schedule the next attempt, instead of the one that is scheduled."""
        self.cancel_attempt()
        self._retry_in(delay)

    def schedule_after_failure(self, now: Millis) -> None:
        """Schedule the next attempt one retry interval after the beginning of the failed one."""
        self._context.failing.add(self)
        self._retry_in(max(0, self._attempted_at + self._retry_interval(now) - now))

    def schedule_after_loss(self, now: Millis) -> None:
        """Schedule the next attempt one ping period after the lost connection was established, or at once."""
        assert self._established is not None
        period = self._context.core.timings.ping_period
        if now - self._established.connected_at >= MIN_RETRY_INTERVAL:
            self._lost_at = now
        elif self._awaits_restart(now):
            # The kernel accepted the connection for a process that was about to end.
            period = RESTART_RETRY_INTERVAL
        # Counted from the beginning of the connection: a server that gets SLAVEOF soon after it restarted closes the
        # connection, and must not be considered down because of that.
        self._retry_in(max(0, self._established.connected_at + period - now))

    def cancel_attempt(self) -> None:
        """Cancel the attempt that is scheduled."""
        if self._callID is not None:
            self._callID.cancel()
            self._callID = None

    def adopt(self, connection: ConnectionType) -> None:
        """Use a connection that is established."""
        connection.factory = self
        self.connection = self._established = connection
        self._context.failing.discard(self)
        if self._follower is not None:
            self._follower.leader_connected()

    def renew(self, reason: str) -> None:
        """Close the connection, with commands unanswered."""
        self.connection = None
        assert self._established is not None
        self._established.reconnect(reason)

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self.connection = None
        assert self._established is not None
        self._established.retire()

    def report_down(self, reason: str, now: Millis) -> None:
        """Report to the core that there is no connection, and execute its decisions."""
        if not self.link.closed:
            # With the command connection the subscription is usually lost, too, which counts as one failure.
            if self._failure is not None and (self._leader is None or self._leader.connection is not None):
                self._context.count_failure(self.link, self._failure)
            self._context.core.link_down(self.link, self.kind, reason, now, self._failure)
            self._context.finish_turn()

    def report_gone(self) -> None:
        """Report that the link was retired and has no connection any more."""
        self._gone(self)

    def _begin(self, connect: Callable[[], object]) -> None:
        """Begin an attempt, or queue it until the outcome of others is known. Peers are few and never wait."""
        if LinkKind.PUBSUB not in self.link.kinds:
            connect()
        elif not self._context.throttle.begin(self, connect) and self.kind is LinkKind.COMMANDS:
            self.link.attempt_waiting = self._untried

    def _connect(self) -> None:
        """Make the first attempt. The connector repeats it with the same wrapped factory."""
        address = self.link.address
        source = self._context.options.bind_source_addr
        wrapped: ClientFactory = self
        if self._context.secure is not None:
            wrapped = self._context.secure(self, lambda: self.link.address, self._timeout())
        is_server = LinkKind.PUBSUB in self.link.kinds
        connect = self._context.connect_server if is_server else self._context.connect_peer
        connect(
            address.ip,
            address.port,
            wrapped,
            timeout=self._timeout(),
            bindAddress=(source, 0) if source else None,
        )

    def _retry_interval(self, now: Millis) -> Millis:
        """Milliseconds from the beginning of a failed attempt to the beginning of the next one."""
        period, link = self._context.core.timings.ping_period, self.link
        spacing = RETRY_SPACING * len(self._context.failing)
        if self._failure is FailureClass.REFUSED and self._awaits_restart(now):
            return max(RESTART_RETRY_INTERVAL, min(period, spacing))
        if link.sdown_instances:
            shortest, longest = period, MAX_RETRY_PERIODS * period
        else:
            third = link.shortest_down_after // 3
            shortest, longest = min(period, max(MIN_RETRY_INTERVAL, third)), max(period, third)
        return max(shortest, min(longest, spacing))

    def _awaits_restart(self, now: Millis) -> bool:
        """Whether the link is that of a master, lost a moment ago, that must be judged as soon as it restarts."""
        if self._lost_at is None or now - self._lost_at > RESTART_PERIOD:
            return False
        masters = (each for each in self.link.instances if isinstance(each, Master))
        return any(master.options.guards.empty_restart_failover for master in masters)

    def _timeout(self) -> float:
        """Seconds until an attempt without an outcome is aborted: two ping periods, within the two limits."""
        return min(max(2 * self._context.core.timings.ping_period / 1000, MIN_TIMEOUT), MAX_TIMEOUT)

    def _retry_in(self, delay: Millis) -> None:
        self.delay = delay / 1000
        self.retry(self)  # type: ignore[no-untyped-call]

    @property
    def _destination(self) -> str:
        return self.link.address.joined()


AnyLinkFactory: TypeAlias = "LinkFactory[CommandLink] | LinkFactory[PubSubLink]"


def command_factory(
    context: LinkContext, link: InstanceLink, gone: Callable[[LinkFactory[CommandLink]], None]
) -> LinkFactory[CommandLink]:
    """Return a factory for the command connection of ``link``."""
    return LinkFactory(context, link, LinkKind.COMMANDS, CommandLink, gone)


def pubsub_factory(
    context: LinkContext, link: InstanceLink, gone: Callable[[LinkFactory[PubSubLink]], None]
) -> LinkFactory[PubSubLink]:
    """Return a factory for the Pub/Sub connection of ``link``."""
    return LinkFactory(context, link, LinkKind.PUBSUB, PubSubLink, gone)
