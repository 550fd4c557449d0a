"""
What both kinds of outgoing connection share: one queue of callbacks, one write per turn, and closing.

Replies arrive in the order of the commands, so each connection has a queue with one callback per command,
called with the reply and the time of its arrival. Commands of one turn are sent in one write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.links import encoded_commands
from txsentinel.links.answer_queue import Answer, AnswerQueue
from txsentinel.links.context import LinkContext
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis
from txsentinel.wire.replies import NEED_MORE, SHORT, ReplyReader, ReplyViolation, short_replies
from txsentinel.wire.values import ErrorLine, Status

CLOSING_GRACE: Final = 1.0
"""Seconds that a closed link may take to deliver the commands sent before."""

UNANSWERED_FACTOR: Final = 4
"""
Probes stop at ``Limits.pending_commands`` unanswered commands, the rarer commands do not. At this multiple of it the
connection is dropped, because the other side accepts commands and answers none.
"""


def ignore(reply: object, now: Millis) -> None:
    """Ignore a reply. The consequences of a refused AUTH or CLIENT appear in the replies to PING."""


class LinkConnection(Protocol):
    """Base class of both kinds of connection: the queue of callbacks, one write per turn, and closing."""

    kind: LinkKind
    factory: Any
    _log = Logger(namespace=__name__)

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        self.link = link
        self.connected_at: Millis = 0
        """The time at which the connection was established."""

        self.close_reason: str | None = None
        """Why this side closes the connection; ``None`` if it does not."""

        self.failure: FailureClass | None = None
        self._password: str | None = None
        """The password that was sent last."""

        """The class of that, if it is a failure of the other side."""

        self._context = context
        self._reader = ReplyReader(context.limits)
        self._awaiting = AnswerQueue()
        self._max_unanswered = UNANSWERED_FACTOR * context.limits.pending_commands
        self._unsent: list[bytes] = []
        self._closing = False
        self._dead = False
        self._grace: IDelayedCall | None = None

    @property
    def void(self) -> bool:
        """Whether the link is closed or closing, so that nothing more is reported to the core."""
        return self._closing or self._dead or self.link.closed

    # Called by the reactor.

    def connectionMade(self) -> None:
        """Send the handshake without waiting for replies, with the first commands of the core in the same write."""
        context, link = self._context, self.link
        self._wire = cast("ITCPTransport", self.transport)
        self._wire.setTcpNoDelay(True)
        self.connected_at = now = context.host.now()
        self._handshake()
        if not self.void:
            near_end: IAddress = self._wire.getHost()
            context.core.link_up(link, self.kind, getattr(near_end, "host", ""), now)
        context.finish_turn()

    def dataReceived(self, data: bytes) -> None:
        """Pass every complete reply to its callback, then execute the decisions of the core."""
        if self._dead:
            return
        now = self._context.host.now()
        known = short_replies(data) if len(data) <= SHORT and self._reader.idle else None
        if known is not None:
            self._deliver(known, now)
        else:
            now = self._read(data, now)
        self._finish_chunk(now)
        self._context.finish_turn()

    def _deliver(self, replies: Sequence[object], now: Millis) -> None:
        """Process complete replies until one of them closes the connection."""
        for reply in replies:
            self._received(reply, now)
            if self._dead:
                break

    def _read(self, data: bytes, now: Millis) -> Millis:
        """Process the complete replies, and return the time after that."""
        host, reader = self._context.host, self._reader
        reader.feed(data)
        try:
            while (reply := reader.next_reply()) is not NEED_MORE:
                self._received(reply, now)
                if self._dead:
                    break
                if host.yield_to_clients():
                    now = host.now()
        except ReplyViolation as violation:
            self.drop(str(violation))
        self._context.unfinished.note(self, 0 if self._dead else reader.held)
        return now

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop the queues. The factory reports the loss to the core."""
        self._dead = True
        self._reader = ReplyReader(self._context.limits)  # What it has read in part takes memory.
        self._context.unfinished.note(self, 0)
        self._awaiting.clear()
        self._unsent.clear()
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self._grace = None

    # Called by the pool and the factory.

    def flush(self) -> None:
        """Write the commands of this turn to the transport."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self._dead:
            if len(unsent) == 1:
                self._wire.write(unsent[0])
            else:
                self._wire.writeSequence(unsent)

    def ping(self) -> None:
        """Send PING."""
        self._send(encoded_commands.ping(self.link), self._ping_answered)

    def reconnect(self, reason: str) -> None:
        """Close at once, with commands unanswered; ``reason`` is what the core gets as the reason of the loss."""
        self.close_reason = reason
        self._abort()

    def drop(self, close_reason: str) -> None:
        """Close at once and log why: the other side violated the protocol."""
        if self.factory.should_log(close_reason):
            self._log.warn(
                "Dropped the {kind} connection to {address}: {close_reason}",
                kind=self.kind.value,
                address=self.link.address.joined(),
                close_reason=close_reason,
            )
        self.failure = FailureClass.GARBAGE
        self.reconnect(close_reason)

    def retire(self) -> None:
        """
        Close for good, after the queued commands were written.

        A role change is awaited, because closing while replies are under way can reset the connection
        before the server has read its commands. This takes ``CLOSING_GRACE`` at most.
        """
        if self._closing or self._dead:
            return
        self.flush()
        self._closing = True
        self._grace = self._context.host.reactor.callLater(CLOSING_GRACE, self._abort)
        self._close_once_idle()

    # For the subclasses.

    def _handshake(self) -> None:
        self._open(self._first_login_answered)

    def _open(self, login_answered: Answer) -> None:
        """Send AUTH, if there is a password, and CLIENT SETNAME."""
        link = self.link
        self._password = link.password
        answers = [login_answered, ignore] if link.password else [ignore]
        handshake_commands = encoded_commands.handshake_commands(link, self.kind, self._context.core.options.my_id)
        for command, answer in zip(handshake_commands, answers, strict=True):
            self._send(command, answer)

    def _first_login_answered(self, reply: object, now: Millis) -> None:
        """AUTH was answered. If it was refused, the second password is tried, if there is one."""
        link = self.link
        if not isinstance(reply, ErrorLine) or not link.next_password:
            self._login_answered(reply, now)
            return
        if link.password == self._password:
            # The other connection of this link has not exchanged them yet. New connections begin with the other one.
            link.exchange_passwords()
        self._open(self._login_answered)

    def _login_answered(self, reply: object, now: Millis) -> None:
        """AUTH was answered. The consequences of a refusal appear in the replies to PING."""

    def _send(self, command: bytes, answer: Answer) -> None:
        """Queue a command until the end of the turn; ``answer`` is called with its reply."""
        if self._closing or self._dead:
            return
        if not self._unsent:
            self._context.unflushed.append(self)
        self._unsent.append(command)
        awaiting = self._awaiting
        if awaiting.append(answer) > self._max_unanswered:
            maximum = self._max_unanswered * max(1, len(self.link.instances))
            if len(awaiting) > maximum:
                self.drop(f"{maximum} commands without an answer")

    def _received(self, reply: object, now: Millis) -> None:
        if self._awaiting:
            self._awaiting.popleft()(reply, now)
        else:
            self.drop("a reply without a command")

    def _finish_chunk(self, now: Millis) -> None:
        """One chunk of input has been processed."""
        if self._closing:
            self._close_once_idle()

    def _safe_to_close(self) -> bool:
        """Whether the connection can be closed now without losing a role change."""
        return True

    def _ping_answered(self, reply: object, now: Millis) -> None:
        if not self.void:
            line = reply if isinstance(reply, (Status, ErrorLine)) else None
            self._context.core.ping_reply(self.link, self.kind, line, now)

    def _instance_text(self) -> str:
        described: str = self.factory.instance_text()
        return described

    def _close_once_idle(self) -> None:
        if not self._dead and self._safe_to_close():
            self._wire.loseConnection()

    def _abort(self) -> None:
        if not self._dead:
            self._dead = True
            self._unsent.clear()
            self._wire.abortConnection()
