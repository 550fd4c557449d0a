"""The command connection to a server or to a peer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from txsentinel.core.effects import (
    AcceptWrites,
    AskMasterDown,
    CheckRights,
    DemoteHeld,
    HandOver,
    HoldWrites,
    Reconfigure,
    RejectWrites,
)
from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.probing import ACCEPTABLE
from txsentinel.links import encoded_commands
from txsentinel.links.answer_queue import Answer
from txsentinel.links.connection import LinkConnection, ignore
from txsentinel.links.context import LinkContext, instance_kind
from txsentinel.links.transaction import TransactionReplies
from txsentinel.links.write_limits import write_limits_of
from txsentinel.model.failure import LinkFailure, class_of_reply
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import pack, text
from txsentinel.wire.values import ErrorLine, Status


class CommandLink(LinkConnection):
    """The command connection to a server or to a peer."""

    kind = LinkKind.COMMANDS

    def __init__(self, context: LinkContext, link: InstanceLink) -> None:
        super().__init__(context, link)
        self._ping_sent_at: Millis | None = None
        """When the PING was sent whose round trip is measured; ``None`` if none is unanswered."""

        self._measurements = context.measurements
        self._role_changes = 0
        """The number of transactions whose EXEC is not answered yet."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Reset the number of pending commands."""
        super().connectionLost(reason)
        self.link.pending_commands = 0

    def ping(self) -> None:
        """Send PING. Its round trip is measured, if it is to be, unless another one is unanswered."""
        link = self.link
        if self._measurements.observed and self._ping_sent_at is None:
            self._ping_sent_at = link.ping_sent_at
        self._send(encoded_commands.ping(link), self._ping_answered)

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
        context, master = self._context, question.master
        answer: Answer = partial(self._opinion_given, master)
        if question.candidate == context.core.options.my_id:
            answer = partial(self._vote_given, master, context.host.now())
        self._send(encoded_commands.ask_master_down(self.link, question), answer)

    def kill_script(self) -> None:
        """Send SCRIPT KILL. Its effect appears in the replies to PING."""
        self._send(encoded_commands.kill_script(self.link), self._kill_answered)

    def pause_clients(self, period: Millis) -> None:
        """Send CLIENT PAUSE. A server that refuses it merely gives the failover less time."""
        self._send(encoded_commands.pause_clients(self.link, period), self._pause_answered)

    def pause_writes(self, period: Millis) -> None:
        """Send CLIENT PAUSE WRITE, and report to the core whether it was accepted."""
        self._send(encoded_commands.pause_writes(self.link, period), self._write_pause_answered)

    def resume_writes(self) -> None:
        """Send CLIENT UNPAUSE. If the server refuses it, the pause ends by its timeout."""
        self._send(encoded_commands.resume_writes(self.link), self._resume_answered)

    def send_command(self, number: int, words: Sequence[bytes]) -> None:
        """Send a command of TXSENTINEL to a peer, and report its reply to the core with ``number``."""
        self._send(pack(*words), partial(self._command_answered, number))

    def reconfigure(self, change: Reconfigure) -> None:
        """
        Send the role-change transaction, and INFO after it.

        The INFO shows that a server has become a master; the replies to the transaction show that it refused.
        """
        commands = encoded_commands.role_change(change)

        def done(refusal: tuple[str, str] | None) -> None:
            self._role_change_done(refusal)
            if not change.promotes:
                self._clients_closed(transaction)
            if refusal is None or not transaction.void or self.void:
                return
            core, now = self._context.core, self._context.host.now()
            if change.promotes:
                core.promotion_refused(self.link, *refusal, now)
            else:
                core.follow_order_refused(self.link, *refusal, now)

        transaction = TransactionReplies(commands, done)
        self._transact(commands, transaction)
        self.request_info()

    def hand_over(self, order: HandOver) -> None:
        """Send the transaction of a coordinated failover; report a refused command and its error to the core."""
        commands = encoded_commands.hand_over(order)

        def done(refusal: tuple[str, str] | None) -> None:
            if refusal is None:
                self._writes_held(transaction)
            self._hand_over_done(refusal)

        transaction = TransactionReplies(commands, done, ("CLIENT", "FAILOVER"))
        self._transact(commands, transaction)

    def hold_writes(self, order: HoldWrites) -> None:
        """Send the transaction that holds writes; report the offset, or a refused command, to the core."""
        commands = encoded_commands.hold_writes(order)

        def done(refusal: tuple[str, str] | None) -> None:
            if refusal is None:
                self._writes_held(transaction)
            self._hand_over_done(refusal)

        transaction = TransactionReplies(commands, done, ("CLIENT", "INFO"))
        self._transact(commands, transaction)

    def read_write_limits(self) -> None:
        """Read the settings by which writes are rejected, and report them to the core, or the error."""
        first, second = encoded_commands.write_limits()
        replies: list[object] = []

        def answered(reply: object, now: Millis) -> None:
            replies.append(reply)
            if len(replies) == 2 and not self.void:
                limits, error = write_limits_of(replies)
                self._context.core.write_limits_read(self.link, limits, error, now)

        for words in (first, second):
            self._send(encoded_commands.encoded_command(self.link, words), answered)

    def reject_writes(self, order: RejectWrites) -> None:
        """Send the transaction that rejects writes; report the offset, or a refused command, to the core."""
        commands = encoded_commands.reject_writes(order)

        def done(refusal: tuple[str, str] | None) -> None:
            if refusal is None:
                self._writes_held(transaction)
            self._hand_over_done(refusal)

        transaction = TransactionReplies(commands, done, ("CONFIG", "INFO"))
        self._transact(commands, transaction)

    def accept_writes(self, order: AcceptWrites) -> None:
        """Send the transaction that restores the settings; they are read again later, so only a refusal is logged."""
        commands = encoded_commands.accept_writes(order)
        self._transact(commands, TransactionReplies(commands, self._role_change_done))

    def demote_held(self, order: DemoteHeld) -> None:
        """
        Send the transaction that makes an old master with held or rejected writes a replica, and INFO after it.

        Its last offset is reported to the core.
        """
        commands = encoded_commands.demote_held(order)

        def done(refusal: tuple[str, str] | None) -> None:
            self._role_change_done(refusal)
            core, now = self._context.core, self._context.host.now()
            if not self.void:
                info = None if transaction.void else transaction.info
                core.old_master_demoted(self.link, info, transaction.to_write, now)
                if transaction.void and refusal is not None:
                    core.follow_order_refused(self.link, *refusal, now)
            self._clients_closed(transaction)

        transaction = TransactionReplies(commands, done)
        self._transact(commands, transaction)
        self.request_info()

    def check_rights(self, order: CheckRights) -> None:
        """Find out which commands the server denies; nothing is executed."""
        commands = encoded_commands.check_rights(order)
        denied: dict[str, str] = {}
        self._role_changes += 1
        for position, words in enumerate(commands):
            name = order.commands[position - 2] if 2 <= position < len(commands) - 1 else ""
            answer = partial(self._right_checked, denied, name, position == len(commands) - 1)
            self._send(encoded_commands.encoded_command(self.link, words), answer)

    def _right_checked(self, denied: dict[str, str], name: str, last: bool, reply: object, now: Millis) -> None:
        if name and isinstance(reply, ErrorLine):
            denied[name] = excerpt(text(reply))
        if last:
            self._role_changes -= 1
            if not self.void:
                self._context.core.rights_checked(self.link, denied, now)

    def _writes_held(self, transaction: TransactionReplies) -> None:
        if transaction.info is not None and not self.void:
            self._context.core.writes_held(self.link, transaction.info, self._context.host.now())

    def finish_hand_over(self) -> None:
        """
        Send the commands that end a coordinated failover, and INFO after them for the new role.

        A refused command aborts the transaction. Then each command is sent on its own.
        """
        commands = encoded_commands.finish_hand_over()

        def done(refusal: tuple[str, str] | None) -> None:
            self._finish_done(refusal)
            self._clients_closed(transaction)

        transaction = TransactionReplies(commands, done, ("CLIENT",))
        self._transact(commands, transaction)
        self.request_info()

    def _clients_closed(self, transaction: TransactionReplies) -> None:
        if transaction.clients_closed is not None and not self.void:
            self._context.core.clients_closed(self.link, transaction.clients_closed, self._context.host.now())

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

    def _transact(self, commands: Sequence[encoded_commands.Words], transaction: TransactionReplies) -> None:
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
        try:
            answer = awaiting.popleft()
        except IndexError:
            self.drop("a reply without a command")
            return
        # The core reads the number of pending commands while it processes the reply.
        self.link.pending_commands = len(awaiting)
        answer(reply, now)

    def _safe_to_close(self) -> bool:
        return not self._role_changes

    def _login_answered(self, reply: object, now: Millis) -> None:
        self._note_refusal("AUTH", reply, f"is {self._password_directive()} right?")

    def _password_directive(self) -> str:
        return "auth-pass" if LinkKind.PUBSUB in self.link.kinds else "sentinel-pass, or requirepass of both,"

    def _ping_answered(self, reply: object, now: Millis) -> None:
        sent_at = self._ping_sent_at
        if sent_at is not None:
            self._ping_sent_at = None
            self._measurements.ping_round_trips[instance_kind(self.link)].observe(now - sent_at)
        super()._ping_answered(reply, now)
        refused = isinstance(reply, ErrorLine) and not reply.startswith(ACCEPTABLE)
        consequence = "this does not count as a valid reply"
        if isinstance(reply, ErrorLine) and reply.startswith(b"NOAUTH"):
            consequence += f"; is {self._password_directive()} right?"
        self._note_refusal("PING", reply if refused else None, consequence)

    def _kill_answered(self, reply: object, now: Millis) -> None:
        if not self.void and isinstance(reply, Status | ErrorLine):
            if isinstance(reply, ErrorLine):
                error = excerpt(text(reply))
                self.link.refusals["SCRIPT KILL"] = LinkFailure(class_of_reply(error), f"SCRIPT KILL: {error}", now)
            line = f"{self._instance_text()} answers BUSY; SCRIPT KILL was answered by {excerpt(text(reply))}"
            if self.factory.should_log(line):
                self._log.warn("{line}", line=line)

    def _pause_answered(self, reply: object, now: Millis) -> None:
        risk = "its replicas may copy its data set before one of them can be promoted"
        self._note_refusal("CLIENT PAUSE", reply, risk)

    def _write_pause_answered(self, reply: object, now: Millis) -> None:
        self._note_refusal("CLIENT PAUSE WRITE", reply, "writes to it cannot be paused while it is isolated")
        if self.void:
            return
        if isinstance(reply, ErrorLine):
            self._context.core.write_pause_refused(self.link)
        else:
            self._context.core.writes_paused(self.link, now)

    def _resume_answered(self, reply: object, now: Millis) -> None:
        self._note_refusal("CLIENT UNPAUSE", reply, "its writes are paused until the timeout of the pause")
        if not self.void:
            self._context.core.writes_resumed(self.link)

    def _note_refusal(self, command: str, reply: object, consequence: str) -> None:
        """Log once that ``command`` is refused, unless PING is refused for the same reason."""
        factory = self.factory
        if self.void:
            return
        if not isinstance(reply, ErrorLine):
            factory.command_accepted(command)
            return
        error = excerpt(text(reply))
        if command != "PING":
            self._context.core.command_refused(self.link, command, error, self._context.host.now())
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

    def _vote_given(self, master: Master, asked_at: Millis, reply: object, now: Millis) -> None:
        self._context.measurements.vote_round_trips.observe(now - asked_at)
        self._opinion_given(master, reply, now)

    def _opinion_given(self, master: Master, reply: object, now: Millis) -> None:
        if not self.void:
            self._context.core.master_down_reply(self.link, master, reply, now)

    def _command_answered(self, number: int, reply: object, now: Millis) -> None:
        if not self.void:
            self._context.core.command_reply(self.link, number, reply, now)

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
