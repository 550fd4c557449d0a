"""
The protocols of outgoing connections: commands to servers and peers, and Pub/Sub to servers.

Replies arrive in the order of the commands, so each connection has a queue with one callback per command,
called with the reply and the time of its arrival. Commands of one turn are sent in one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.core.effects import AskMasterDown, HandOver, Reconfigure
from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.probing import ACCEPTABLE
from txsentinel.links import encoded_commands
from txsentinel.links.context import LinkContext
from txsentinel.links.transaction import RoleChange
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.hello import HELLO_CHANNEL, whole_messages
from txsentinel.wire.replies import NEED_MORE, SHORT, ReplyReader, ReplyViolation, short_replies
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine, Status

Answer: TypeAlias = Callable[[object, Millis], None]
"""Takes the reply to one command and the time at which it arrived."""

CLOSING_GRACE: Final = 1.0
"""Seconds that a closed link may take to deliver the commands sent before."""

UNANSWERED_FACTOR: Final = 4
"""
Probes stop at ``Limits.pending_commands`` unanswered commands, the rarer commands do not. At this multiple of it the
connection is dropped, because the other side accepts commands and answers none.
"""


def ignore(reply: object, now: Millis) -> None:
    """Ignore a reply. The consequences of a refused AUTH or CLIENT appear in the replies to PING."""


class Connection(Protocol):
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

        self._context = context
        self._reader = ReplyReader(context.limits)
        self._awaiting: deque[Answer] = deque()
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
        answers = [ignore] if not self.link.password else [self._login_answered, ignore]
        handshake_commands = encoded_commands.handshake_commands(self.link, self.kind, self._context.core.options.my_id)
        for command, answer in zip(handshake_commands, answers, strict=True):
            self._send(command, answer)

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
        awaiting.append(answer)
        if len(awaiting) > self._max_unanswered:
            most = self._max_unanswered * max(1, len(self.link.instances))
            if len(awaiting) > most:
                self.drop(f"{most} commands without an answer")

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
        if self.link.instances:
            return self.link.first.describe(self._context.core.options.announce_hostnames)
        return self.link.address.joined()

    def _close_once_idle(self) -> None:
        if not self._dead and self._safe_to_close():
            self._wire.loseConnection()

    def _abort(self) -> None:
        if not self._dead:
            self._dead = True
            self._unsent.clear()
            self._wire.abortConnection()


class CommandLink(Connection):
    """The command connection to a server or to a peer."""

    kind = LinkKind.COMMANDS

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        super().__init__(context, link)
        self._role_changes = 0
        """The number of transactions whose EXEC is not answered yet."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Reset the number of pending commands."""
        super().connectionLost(reason)
        self.link.pending_commands = 0

    def request_info(self) -> None:
        """Send INFO."""
        self._send(encoded_commands.info(self.link), self._info_answered)

    def request_role(self) -> None:
        """Send ROLE. A refusal is not logged: the ACL of the server need not allow ROLE."""
        self._send(encoded_commands.role(self.link), self._role_answered)

    def request_id(self) -> None:
        """Send ``SENTINEL MYID``."""
        self._send(encoded_commands.my_id(self.link), self._id_received)

    def publish_hello(self, instance: Instance, payload: bytes) -> None:
        """PUBLISH the own hello on behalf of ``instance``, and report to the core whether it was accepted."""
        self._send(encoded_commands.publish_hello(self.link, payload), partial(self._hello_answered, instance))

    def ask_master_down(self, question: AskMasterDown) -> None:
        """Ask a peer for its opinion or for its vote."""
        self._send(encoded_commands.ask_master_down(self.link, question), partial(self._opinion_given, question.master))

    def kill_script(self) -> None:
        """Send SCRIPT KILL. Its effect appears in the replies to PING."""
        self._send(encoded_commands.kill_script(self.link), self._kill_answered)

    def reconfigure(self, change: Reconfigure) -> None:
        """
        Send the role-change transaction, and INFO after it.

        The INFO shows that a server has become a master; the replies to the transaction show that it refused.
        """
        commands = encoded_commands.role_change(change)

        def done(refusal: tuple[str, str] | None) -> None:
            self._role_change_done(refusal)
            if refusal is not None and change.promotes and transaction.void and not self.void:
                self._context.core.promotion_refused(self.link, *refusal, self._context.host.now())

        transaction = RoleChange(commands, done)
        self._transact(commands, transaction)
        self.request_info()

    def hand_over(self, order: HandOver) -> None:
        """Send the transaction of a coordinated failover; report a refused command and its error to the core."""
        commands = encoded_commands.hand_over(order)
        self._transact(commands, RoleChange(commands, self._hand_over_done, ("CLIENT", "FAILOVER")))

    def finish_hand_over(self) -> None:
        """
        Send the commands that end a coordinated failover, and INFO after them for the new role.

        A refused command aborts the transaction. Then each command is sent on its own.
        """
        commands = encoded_commands.finish_hand_over()
        self._transact(commands, RoleChange(commands, self._finish_done, ("CLIENT",)))
        self.request_info()

    def abort_hand_over(self) -> None:
        """Send the commands that abort a coordinated failover. Each of them fails if there is nothing to abort."""
        self._send_each(encoded_commands.abort_hand_over())

    def _finish_done(self, refusal: tuple[str, str] | None) -> None:
        self._role_change_done(refusal)
        if refusal is None:
            self._handover_ended()
        else:
            self._send_each(encoded_commands.finish_hand_over()[1:-1])

    def _send_each(self, commands: Sequence[encoded_commands.Words]) -> None:
        *others, last = commands
        for words in others:
            self._send(encoded_commands.encoded_command(self.link, words), ignore)
        self._send(encoded_commands.encoded_command(self.link, last), lambda reply, now: self._handover_ended())

    def _handover_ended(self) -> None:
        self.link.handover_end = None

    def _transact(self, commands: Sequence[encoded_commands.Words], transaction: RoleChange) -> None:
        self._role_changes += 1
        for position, words in enumerate(commands):
            self._send(encoded_commands.encoded_command(self.link, words), partial(transaction.answered, position))

    def _hand_over_done(self, refusal: tuple[str, str] | None) -> None:
        self._role_changes -= 1
        if refusal is not None and not self.void:
            self._context.core.handover_refused(self.link, *refusal, self._context.host.now())

    def _send(self, command: bytes, answer: Answer) -> None:
        super()._send(command, answer)
        self.link.pending_commands = len(self._awaiting)

    def _received(self, reply: object, now: Millis) -> None:
        awaiting = self._awaiting
        if not awaiting:
            self.drop("a reply without a command")
            return
        answer = awaiting.popleft()
        # The core reads the number of pending commands while it processes the reply.
        self.link.pending_commands = len(awaiting)
        answer(reply, now)

    def _safe_to_close(self) -> bool:
        return not self._role_changes

    def _login_answered(self, reply: object, now: Millis) -> None:
        own = "auth-pass" if LinkKind.PUBSUB in self.link.kinds else "sentinel-pass, or requirepass of both,"
        self._note_refusal("AUTH", reply, f"is {own} right?")

    def _ping_answered(self, reply: object, now: Millis) -> None:
        super()._ping_answered(reply, now)
        refused = isinstance(reply, ErrorLine) and not reply.startswith(ACCEPTABLE)
        self._note_refusal("PING", reply if refused else None, "this does not count as a valid reply")

    def _kill_answered(self, reply: object, now: Millis) -> None:
        if not self.void and isinstance(reply, Status | ErrorLine):
            line = f"{self._instance_text()} answers BUSY; SCRIPT KILL was answered by {excerpt(text(reply))}"
            if self.factory.should_log(line):
                self._log.warn("{line}", line=line)

    def _note_refusal(self, command: str, reply: object, consequence: str) -> None:
        """Log once that ``command`` is refused, unless PING is refused for the same reason."""
        factory = self.factory
        if self.void:
            return
        if not isinstance(reply, ErrorLine):
            factory.command_refused(command, None)
            return
        error = excerpt(text(reply))
        if command == "PING" or not factory.is_refused("PING", error.split(" ", 1)[0]):
            factory.command_refused(
                command, error, f"{self._instance_text()} answered {command} with {error}: {consequence}"
            )

    def _info_answered(self, reply: object, now: Millis) -> None:
        if not self.void:
            self._note_refusal("INFO", reply, "its role and its replicas are unknown")
            info = reply if isinstance(reply, bytes) and not isinstance(reply, Status | ErrorLine) else None
            self._context.core.info_reply(self.link, info, now)

    def _role_answered(self, reply: object, now: Millis) -> None:
        if not self.void:
            word = reply[0] if isinstance(reply, list) and reply and isinstance(reply[0], bytes) else None
            refused = isinstance(reply, ErrorLine) and reply.startswith((b"NOPERM", b"ERR"))
            self._context.core.role_reply(self.link, word, refused, now)

    def _id_received(self, reply: object, now: Millis) -> None:
        if not self.void:
            self._context.core.id_reply(self.link, reply, now)

    def _hello_answered(self, instance: Instance, reply: object, now: Millis) -> None:
        if not self.void:
            self._note_refusal("PUBLISH", reply, "other Sentinels cannot discover this one through it")
            self._context.core.publish_reply(self.link, instance, not isinstance(reply, ErrorLine), now)

    def _opinion_given(self, master: Master, reply: object, now: Millis) -> None:
        if not self.void:
            self._context.core.master_down_reply(self.link, master, reply, now)

    def _role_change_done(self, refusal: tuple[str, str] | None) -> None:
        self._role_changes -= 1
        if refusal is not None:
            command, error = refusal
            self._log.warn(
                "{instance} refused to change its role: {command} was answered by {error}",
                instance=self._instance_text(),
                command=command,
                error=error,
            )


class PubSubLink(Connection):
    """The Pub/Sub connection to a server, subscribed to the hello channel."""

    kind = LinkKind.PUBSUB

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        super().__init__(context, link)
        self._subscribed = False
        self._frame_received = False

    def _handshake(self) -> None:
        super()._handshake()
        self._send(encoded_commands.subscribe(self.link), self._subscription_answered)

    def dataReceived(self, data: bytes) -> None:
        """Process whole hello messages without the general reader; nearly all input is of this kind."""
        payloads = whole_messages(data) if self._subscribed and self._reader.idle else None
        if payloads is None or self.void:
            super().dataReceived(data)
            return
        context, link = self._context, self.link
        now = context.host.now()
        for payload in payloads:
            if not self.void:
                context.core.hello_received(payload, now, link)
        if not self.void:
            context.core.pubsub_active(link, now)
        context.finish_turn()

    def _received(self, reply: object, now: Millis) -> None:
        self._frame_received = True
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            _, channel, payload = reply
            if channel == HELLO_CHANNEL and isinstance(payload, bytes) and not self.void:
                self._context.core.hello_received(payload, now, self.link)
        else:
            super()._received(reply, now)

    def _finish_chunk(self, now: Millis) -> None:
        if self._frame_received:
            self._frame_received = False
            if self._subscribed and not self.void:
                self._context.core.pubsub_active(self.link, now)
        super()._finish_chunk(now)

    def _subscription_answered(self, reply: object, now: Millis) -> None:
        if isinstance(reply, list) and reply[:2] == [b"subscribe", HELLO_CHANNEL]:
            self._subscribed = True
            self.factory.command_refused("SUBSCRIBE", None)
        elif isinstance(reply, ErrorLine):
            error = excerpt(text(reply))
            self.factory.command_refused(
                "SUBSCRIBE",
                error,
                f"No hellos are received through {self.link.address.joined()}: SUBSCRIBE was answered by {error}",
            )
            # Close at once, so that the link appears as disconnected, as in C. The factory connects and authenticates
            # again one ping period after this connection was made; permission or password may be correct by then.
            self.reconnect(f"SUBSCRIBE was answered by {error}")
        else:
            self.drop("SUBSCRIBE was not answered by a confirmation")

    def _ping_answered(self, reply: object, now: Millis) -> None:
        if isinstance(reply, list) and reply[:1] == [b"pong"]:
            # A subscribed connection gets a frame with the name of the command in lower case.
            reply = Status(b"PONG")
        super()._ping_answered(reply, now)
