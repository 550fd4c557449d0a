"""
The two conversations with a monitored server, and the one with a peer.

Answers come in the order of the commands, so each connection keeps a queue of those who wait for one:
a callable per command, called with the reply and the time at which it arrived. Bytes are collected
while a turn lasts and leave in one write.
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
from txsentinel.core.instances import Instance, Master
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.probing import ACCEPTABLE
from txsentinel.links import encoded_commands as encoded_commands
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
"""Seconds that a link which is given up may take to deliver what it was told to say."""

UNANSWERED_FACTOR: Final = 4
"""
Probes stop at ``Limits.pending_commands`` unanswered ones, the rarer commands do not. At this multiple
whoever is on the other side takes our commands and answers none, and loses the connection.
"""


def ignore(reply: object, now: Millis) -> None:
    """What follows from the refusal of AUTH or CLIENT shows soon enough in the answers to PING."""


class Connection(Protocol):
    """What both kinds of connection have in common: the queue of answers, the write per turn, the end."""

    kind: LinkKind
    factory: Any
    _log = Logger()

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        self.link = link
        self.connected_at: Millis = 0
        """When it was established."""

        self.offence: str | None = None
        """Why we close it, if it is us who do."""

        self._context = context
        self._reader = ReplyReader(context.limits)
        self._awaiting: deque[Answer] = deque()
        self._plenty = UNANSWERED_FACTOR * context.limits.pending_commands
        self._unsent: list[bytes] = []
        self._closing = False
        self._dead = False
        self._grace: IDelayedCall | None = None

    @property
    def void(self) -> bool:
        """Has the link been given up, so that the core must hear no more of it?"""
        return self._closing or self._dead or self.link.closed

    # What the reactor tells us.

    def connectionMade(self) -> None:
        """Introduce ourselves without waiting for answers, and let the core go on from there in the same write."""
        context, link = self._context, self.link
        self._wire = cast("ITCPTransport", self.transport)
        self._wire.setTcpNoDelay(True)
        self.connected_at = now = context.host.now()
        self._handshake()
        if not self.void:
            near_end: IAddress = self._wire.getHost()
            context.core.link_up(link, self.kind, getattr(near_end, "host", ""), now)
        context.told()

    def dataReceived(self, data: bytes) -> None:
        """Hand every complete reply to whoever waits for it, then let the core's decisions be carried out."""
        if self._dead:
            return
        now = self._context.host.now()
        known = short_replies(data) if len(data) <= SHORT and self._reader.idle else None
        if known is not None:
            self._hand_out(known, now)
        else:
            now = self._read(data, now)
        self._finish_chunk(now)
        self._context.told()

    def _hand_out(self, replies: Sequence[object], now: Millis) -> None:
        """Hand on complete replies until one of them has the connection closed."""
        for reply in replies:
            self._received(reply, now)
            if self._dead:
                break

    def _read(self, data: bytes, now: Millis) -> Millis:
        """Hand on what is complete; the time when that is done."""
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
        return now

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody will be answered any more. The factory tells the core."""
        self._dead = True
        self._awaiting.clear()
        self._unsent.clear()
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self._grace = None

    # What those above ask for.

    def flush(self) -> None:
        """Hand everything said in this turn to the transport."""
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
        """Close at once, whatever is on its way; ``reason`` is what the core will be told."""
        self.offence = reason
        self._abort()

    def drop(self, offence: str) -> None:
        """Close at once and log why: the other side broke the protocol."""
        if self.factory.should_log(offence):
            self._log.warn(
                "Dropped the {kind} connection to {address}: {offence}",
                kind=self.kind.value,
                address=self.link.address.joined(),
                offence=offence,
            )
        self.reconnect(offence)

    def retire(self) -> None:
        """
        Close for good, after everything said so far was handed over.

        A role change is waited for, as a close while answers are under way may reset the connection
        before the server has read its commands. None of this takes longer than ``CLOSING_GRACE``.
        """
        if self._closing or self._dead:
            return
        self.flush()
        self._closing = True
        self._grace = self._context.host.reactor.callLater(CLOSING_GRACE, self._abort)
        self._close_once_idle()

    # For the two kinds.

    def _handshake(self) -> None:
        answers = [ignore] if not self.link.password else [self._login_answered, ignore]
        handshake_commands = encoded_commands.handshake_commands(self.link, self.kind, self._context.core.options.my_id)
        for command, answer in zip(handshake_commands, answers, strict=True):
            self._send(command, answer)

    def _login_answered(self, reply: object, now: Millis) -> None:
        """AUTH was answered. What follows from a refusal is seen from the answers to PING."""

    def _send(self, command: bytes, answer: Answer) -> None:
        """Say something when the turn ends; ``answer`` is called with the reply."""
        if self._closing or self._dead:
            return
        if not self._unsent:
            self._context.unflushed.append(self)
        self._unsent.append(command)
        awaiting = self._awaiting
        awaiting.append(answer)
        if len(awaiting) > self._plenty:
            most = self._plenty * max(1, len(self.link.instances))
            if len(awaiting) > most:
                self.drop(f"{most} commands without an answer")

    def _received(self, reply: object, now: Millis) -> None:
        if self._awaiting:
            self._awaiting.popleft()(reply, now)
        else:
            self.drop("a reply nobody asked for")

    def _finish_chunk(self, now: Millis) -> None:
        """Everything in one chunk of input has been handed on."""
        if self._closing:
            self._close_once_idle()

    def _settled(self) -> bool:
        """Would closing now lose nothing of importance?"""
        return True

    def _ping_answered(self, reply: object, now: Millis) -> None:
        if not self.void:
            told = reply if isinstance(reply, (Status, ErrorLine)) else None
            self._context.core.ping_reply(self.link, self.kind, told, now)

    def _instance_text(self) -> str:
        if self.link.instances:
            return self.link.first.describe(self._context.core.options.announce_hostnames)
        return self.link.address.joined()

    def _close_once_idle(self) -> None:
        if not self._dead and self._settled():
            self._wire.loseConnection()

    def _abort(self) -> None:
        if not self._dead:
            self._dead = True
            self._unsent.clear()
            self._wire.abortConnection()


class CommandLink(Connection):
    """The connection that commands go by, to a server or to a peer."""

    kind = LinkKind.COMMANDS

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        super().__init__(context, link)
        self._role_changes = 0
        """Transactions whose EXEC is not answered yet."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing is pending on a connection that is gone."""
        super().connectionLost(reason)
        self.link.pending_commands = 0

    def request_info(self) -> None:
        """Send INFO."""
        self._send(encoded_commands.info(self.link), self._info_answered)

    def request_role(self) -> None:
        """Send ROLE. Permissions may well lack it, which is no reason to complain."""
        self._send(encoded_commands.role(self.link), self._role_answered)

    def request_id(self) -> None:
        """Ask a Sentinel for its ID."""
        self._send(encoded_commands.my_id(self.link), self._id_received)

    def publish_hello(self, instance: Instance, payload: bytes) -> None:
        """PUBLISH our hello; the core is told whether it was accepted on behalf of ``instance``."""
        self._send(encoded_commands.publish_hello(self.link, payload), partial(self._hello_answered, instance))

    def ask_master_down(self, question: AskMasterDown) -> None:
        """Ask a peer for its opinion, or for its vote."""
        self._send(encoded_commands.ask_master_down(self.link, question), partial(self._opinion_given, question.master))

    def kill_script(self) -> None:
        """SCRIPT KILL. Whether it helped is seen from the answers to PING."""
        self._send(encoded_commands.kill_script(self.link), self._kill_answered)

    def reconfigure(self, change: Reconfigure) -> None:
        """
        Send the role-change transaction with INFO right behind it.

        That a server has become a master is concluded from the INFO only; that it refused to, from its answers.
        """
        commands = encoded_commands.role_change(change)

        def over(refusal: tuple[str, str] | None) -> None:
            self._role_change_over(refusal)
            if refusal is not None and change.promotes and transaction.void and not self.void:
                self._context.core.promotion_refused(self.link, *refusal, self._context.host.now())

        transaction = RoleChange(commands, over)
        self._transact(commands, transaction)
        self.request_info()

    def hand_over(self, order: HandOver) -> None:
        """Send the hand-over; if the server refuses any of it, the core is told what and why."""
        commands = encoded_commands.hand_over(order)
        self._transact(commands, RoleChange(commands, self._hand_over_over, ("CLIENT", "FAILOVER")))

    def finish_hand_over(self) -> None:
        """
        Send what follows a hand-over, with INFO behind it: the role is a new one.

        A command that is refused takes the transaction with it; then each is sent for itself, as far as it goes.
        """
        commands = encoded_commands.finish_hand_over()
        self._transact(commands, RoleChange(commands, self._finish_over, ("CLIENT",)))
        self.request_info()

    def abort_hand_over(self) -> None:
        """Send what ends a hand-over that came to nothing; either part fails if there is nothing to end."""
        self._send_each(encoded_commands.abort_hand_over())

    def _finish_over(self, refusal: tuple[str, str] | None) -> None:
        self._role_change_over(refusal)
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

    def _hand_over_over(self, refusal: tuple[str, str] | None) -> None:
        self._role_changes -= 1
        if refusal is not None and not self.void:
            self._context.core.handover_refused(self.link, *refusal, self._context.host.now())

    def _send(self, command: bytes, answer: Answer) -> None:
        super()._send(command, answer)
        self.link.pending_commands = len(self._awaiting)

    def _received(self, reply: object, now: Millis) -> None:
        awaiting = self._awaiting
        if not awaiting:
            self.drop("a reply nobody asked for")
            return
        answer = awaiting.popleft()
        # The core looks at the number of pending commands when it is told of the reply.
        self.link.pending_commands = len(awaiting)
        answer(reply, now)

    def _settled(self) -> bool:
        return not self._role_changes

    def _login_answered(self, reply: object, now: Millis) -> None:
        own = "auth-pass" if LinkKind.PUBSUB in self.link.kinds else "sentinel-pass, or requirepass of both,"
        self._note_refusal("AUTH", reply, f"is {own} right?")

    def _ping_answered(self, reply: object, now: Millis) -> None:
        super()._ping_answered(reply, now)
        refused = isinstance(reply, ErrorLine) and not reply.startswith(ACCEPTABLE)
        self._note_refusal("PING", reply if refused else None, "that is no sign of life")

    def _kill_answered(self, reply: object, now: Millis) -> None:
        if not self.void and isinstance(reply, Status | ErrorLine):
            line = f"{self._instance_text()} answers BUSY; SCRIPT KILL was answered by {excerpt(text(reply))}"
            if self.factory.should_log(line):
                self._log.warn("{line}", line=line)

    def _note_refusal(self, command: str, reply: object, consequence: str) -> None:
        """Have the log say that ``command`` is refused, once, unless PING is refused for the same reason."""
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
            told = reply if isinstance(reply, bytes) and not isinstance(reply, Status | ErrorLine) else None
            self._context.core.info_reply(self.link, told, now)

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
            self._note_refusal("PUBLISH", reply, "other Sentinels do not hear of this one through it")
            self._context.core.publish_reply(self.link, instance, not isinstance(reply, ErrorLine), now)

    def _opinion_given(self, master: Master, reply: object, now: Millis) -> None:
        if not self.void:
            self._context.core.master_down_reply(self.link, master, reply, now)

    def _role_change_over(self, refusal: tuple[str, str] | None) -> None:
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
    """The subscription to the hello channel of a server."""

    kind = LinkKind.PUBSUB

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        super().__init__(context, link)
        self._subscribed = False
        self._frame_received = False

    def _handshake(self) -> None:
        super()._handshake()
        self._send(encoded_commands.subscribe(self.link), self._subscription_answered)

    def dataReceived(self, data: bytes) -> None:
        """Nearly all that comes is hellos, one at a time: those are not taken apart further than needed."""
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
        context.told()

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
                f"No hellos are heard through {self.link.address.joined()}: SUBSCRIBE was answered by {error}",
            )
            # Closed at once, so that the link shows as disconnected, as upstream. Permission or password may be in
            # order soon: the factory connects, and logs in, anew a ping period after this connection was made.
            self.reconnect(f"SUBSCRIBE was answered by {error}")
        else:
            self.drop("SUBSCRIBE was not answered by a confirmation")

    def _ping_answered(self, reply: object, now: Millis) -> None:
        if isinstance(reply, list) and reply[:1] == [b"pong"]:
            # A subscriber is answered by a frame that names the command, in lower case.
            reply = Status(b"PONG")
        super()._ping_answered(reply, now)
