"""
Executes commands for extensions, as the commands of clients are executed.

Each command gets a session of its own: a client without a socket, whose input goes through the parser, the dispatch,
the permissions and the durability barrier of every connection, and whose output is parsed. While the command is
executed, its session is shown by ``CLIENT LIST`` with the origin as its address; ``CLIENT KILL`` ends it, and
``CLIENT PAUSE`` delays it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from txsentinel.core.errors import CommandError
from txsentinel.core.options import SECRET_OPTIONS
from txsentinel.interfaces import CommandRefused, IOperator
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt
from txsentinel.model.snapshots import CommandRefusal, Principal
from txsentinel.server.access_control import refusal_text
from txsentinel.server.acl.users import DEFAULT_USER
from txsentinel.server.certificates import names_in
from txsentinel.server.clients import DISCONNECTED, Client
from txsentinel.server.dispatch import unknown_command, wrong_arity
from txsentinel.server.handlers import BoundHandler
from txsentinel.server.request_executor import RequestExecutor
from txsentinel.server.specification import Command
from txsentinel.wire.replies import NEED_MORE, ReplyReader, ReplyViolation
from txsentinel.wire.resp import data, pack, text
from txsentinel.wire.values import ErrorLine

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

    from txsentinel.model.timings import Millis
    from txsentinel.server.acl.users import User
    from txsentinel.server.services import ConnectionServices

CONNECTION_COMMANDS: Final = frozenset(
    {
        "auth",
        "client|caching",
        "client|reply",
        "client|tracking",
        "hello",
        "psubscribe",
        "punsubscribe",
        "quit",
        "subscribe",
        "unsubscribe",
    }
)
"""Commands about the connection that they arrive on; they make no sense for a session of one command."""

ACTING_COMMANDS: Final = frozenset(
    {
        "acl|deluser",
        "acl|load",
        "acl|save",
        "acl|setuser",
        "client|kill",
        "client|pause",
        "client|unpause",
        "shutdown",
        "txsentinel|ack",
    }
)
"""Commands that change something, besides those that are marked so because the core decides on them."""

READING_COMMANDS: Final = frozenset({"sentinel|is-master-down-by-addr", "sentinel|is-primary-down-by-addr"})
"""Commands that the core decides on, but which change nothing for operators."""

MASKED: Final = "******"
MAX_ORIGIN: Final = 128
MAX_REPLY: Final = 256 * 1024 * 1024
"""Bytes of one reply, each value being charged 64 bytes besides its length; it comes from this process itself."""

CLOSED: Final = CommandRefusal("CLOSED", "CLOSED The session ended before the reply was known.")

_SECRET_WORD: Final = re.compile("pass|secret|token", re.IGNORECASE)


def masked(command: Command, words: Sequence[bytes]) -> str:
    """Return a command for the log: the words with passwords masked, escaped and limited in length."""
    shown = [text(word) for word in words]
    if command.name == "acl|setuser":
        shown[3:] = [MASKED if rule[:1] in (">", "<", "#", "!") else rule for rule in shown[3:]]
    else:
        # Each word may be the name of an option, whose value follows; the names are not looked for in what is masked.
        for index, word in enumerate(words[:-1]):
            name = text(word).lower()
            if name in SECRET_OPTIONS or (command.name == "sentinel|config" and _SECRET_WORD.search(name)):
                shown[index + 1] = MASKED
    return excerpt(" ".join(shown))


def acts(command: Command, words: Sequence[bytes]) -> bool:
    """Whether a command changes something, so that it is logged."""
    if command.name in READING_COMMANDS:
        return False
    if command.name == "sentinel|config":
        return len(words) > 2 and words[2].lower() == b"set"
    if command.name == "sentinel|debug":
        return len(words) > 2
    return command.acts or command.name in ACTING_COMMANDS


class MemoryTransport:
    """
    The transport of a session: takes its output, and never pauses it.

    :param received: called with each piece of output.
    :param closed: called when the session closes it.
    """

    def __init__(self, received: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._received = received
        self._closed = closed

    def write(self, encoded: bytes) -> None:
        """Take a piece of output."""
        self._received(encoded)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Accept any producer; it is never paused."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""

    def pauseProducing(self) -> None:
        """Deliver no input: there is none but the command."""

    def resumeProducing(self) -> None:
        """Deliver input again."""

    def loseConnection(self) -> None:
        """Close after the output was sent."""
        self._closed()

    def abortConnection(self) -> None:
        """Close now."""
        self._closed()


class OperatorSession:
    """
    The session of one command: the connection of a client without a socket.

    The result is delivered, and the client removed, in a reactor turn of its own, as the session may end in the middle
    of a call of its executor.
    """

    descriptor = -1
    local_address = ""

    def __init__(
        self,
        services: ConnectionServices,
        handlers: Mapping[Command, BoundHandler],
        user: User,
        origin: str,
        command: Command,
    ) -> None:
        now = services.host.now()
        self._services = services
        self._command = command
        self._ended = False
        self._values: list[object] = []
        self._reader = ReplyReader(replace(services.limits, reply_buffer=MAX_REPLY), resp3=True)
        self._client = Client(
            services.clients.next_id(),
            self,
            origin,
            now,
            now,
            user,
            protocol=3,
            authenticated=True,
            no_evict=True,
        )
        self._executor = RequestExecutor(services, handlers, self._client, MemoryTransport(self._take, self._end))
        self.result: Deferred[object] = Deferred()
        """Fires with the reply."""

        services.clients.add(self._client)
        self._executor.start()

    def execute(self, words: Sequence[bytes]) -> None:
        """Execute the command."""
        self._executor.receive(pack(*words))

    # The interface ``ClientConnection``.

    @property
    def buffered(self) -> int:
        """Bytes of input whose execution has not finished."""
        return self._executor.buffered

    @property
    def queued(self) -> int:
        """Number of output chunks that wait for an earlier reply."""
        return self._executor.writer.pieces

    @property
    def unsent(self) -> int:
        """Bytes of output that wait for an earlier reply."""
        return self._executor.writer.unsent

    @property
    def closing(self) -> bool:
        """Whether the session is ending."""
        return self._executor.closing

    def push(self, encoded: bytes) -> None:
        """Drop a message: the session has no subscriptions."""

    def check_output(self, now: Millis) -> None:
        """Keep the session, whatever the size of its output, which goes to this process."""

    def abort(self) -> None:
        """End the session without a reply."""
        self._executor.abort()

    def finish(self) -> None:
        """End the session when the command is answered."""
        self._executor.finish()

    def proceed(self) -> None:
        """Resume the execution."""
        self._executor.proceed()

    def _take(self, encoded: bytes) -> None:
        """Parse a piece of the reply."""
        self._reader.feed(encoded)
        try:
            value = self._reader.next_reply()
        except ReplyViolation as error:
            value = ErrorLine(data(f"ERR the reply cannot be represented: {error}"))
        if value is not NEED_MORE:
            self._values.append(value)
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._services.host.reactor.callLater(0, self._deliver)

    def _deliver(self) -> None:
        """Remove the client, and deliver the result."""
        self._executor.connection_lost()
        self._services.hub.leave(self._client)
        self._services.clients.remove(self._client)
        if not self._values and self._command.name == "shutdown":
            self._values.append(None)
        if not self._values:
            self.result.errback(CommandRefused(CLOSED))
            return
        value = self._values[0]
        if isinstance(value, ErrorLine):
            self.result.errback(CommandRefused(refusal_of(text(value))))
        else:
            self.result.callback(plain_reply(value))


def refusal_of(error: str) -> CommandRefusal:
    """Return an error reply as a refusal."""
    return CommandRefusal(error.split(" ", 1)[0], error)


def plain_reply(value: object) -> object:
    """Return a parsed reply without the types of the parser: a status is bytes, as is an error within a reply."""
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, list):
        return [plain_reply(each) for each in value]
    if isinstance(value, dict):
        return {plain_reply(key): plain_reply(each) for key, each in value.items()}
    return value


@implementer(IOperator)
class Operator:
    """
    Executes commands with the rights of users of the ACL.

    :param handlers: the commands with the functions that execute them.
    :param note: writes a line to the log.
    """

    def __init__(
        self,
        services: ConnectionServices,
        handlers: Mapping[Command, BoundHandler],
        note: Callable[[Level, str], None],
    ) -> None:
        self._services = services
        self._handlers = handlers
        self._note = note

    def run(self, principal: Principal, words: Sequence[bytes]) -> Deferred[object]:
        """
        Execute one command.

        It passes the same dispatch, permissions, durability barrier and logs as the command of a client. A command
        that changes something is logged with the principal, its origin and the words, passwords masked.

        :returns: fires with the reply as plain values (bytes, int, float, bool, list, dict, ``None``), once it is
            durable; fails with ``CommandRefused`` if the reply is an error.
        """
        user = self._services.access.get(principal.user)
        command = self._services.table.find(words) if words else None
        refusal = self._refused_here(principal, user, command)
        if refusal is not None or user is None or command is None:
            return fail(CommandRefused(refusal or self._unknown(words)))
        if acts(command, words) and self.allowed(principal, words) is None:
            shown = f"{principal.user} ({principal.method}, {excerpt(principal.origin)})"
            self._note(Level.NOTICE, f"Operator {shown} executes: {masked(command, words)}")
        session = OperatorSession(self._services, self._handlers, user, _address(principal.origin), command)
        session.execute(words)
        return session.result

    def allowed(self, principal: Principal, words: Sequence[bytes]) -> CommandRefusal | None:
        """Return why the user may not execute the command, ``None`` if it may. Nothing is logged."""
        user = self._services.access.get(principal.user)
        command = self._services.table.find(words) if words else None
        refusal = self._refused_here(principal, user, command)
        if refusal is not None or user is None or command is None:
            return refusal or self._unknown(words)
        if not command.accepts(len(words)):
            return refusal_of(str(wrong_arity(command)))
        denied = None if user.unrestricted else user.refusal(command, words)
        return None if denied is None else refusal_of(f"NOPERM {refusal_text(denied, user, command, words)}")

    def authenticate(self, user: str, password: str, origin: str) -> Principal | None:
        """
        Check the password of a user of the ACL, with an entry in ``ACL LOG`` if it is wrong.

        :returns: ``None`` if the user does not exist, is off, or the password is wrong.
        """
        services, now = self._services, self._services.host.now()
        # An ID of 0 belongs to no client: this one exists only for the entry in the log.
        client = Client(0, DISCONNECTED, _address(origin), now, now, services.access.default, authenticated=False)
        if not services.access.log_in(client, user, data(password), b"AUTH"):
            return None
        return Principal(user, "password", origin)

    def by_certificate(self, certificate: object, origin: str) -> Principal | None:
        """
        Return the user that a verified certificate of a client names, as ``tls-auth-clients-user`` demands.

        :returns: ``None`` if that is off, or there is no such user, which has an entry in ``ACL LOG``.
        """
        services, now = self._services, self._services.host.now()
        kind = services.options.tls_auth_clients_user
        if kind.lower() == "off":
            return None
        client = Client(0, DISCONNECTED, _address(origin), now, now, services.access.default, authenticated=False)
        services.access.log_in_by_certificate(client, names_in(cast("X509", certificate), kind))
        return Principal(client.account.name, "certificate", origin) if client.authenticated else None

    def anonymous(self, origin: str) -> Principal | None:
        """
        Return the user that a client is before it logs in: ``default``, if it is on and needs no password.

        :returns: ``None`` if clients must log in. Nothing is logged.
        """
        return Principal(DEFAULT_USER, "none", origin) if self._services.access.open_by_default() else None

    def has_passwords(self) -> bool:
        """Whether a user of the ACL is on and has a password."""
        return any(
            user.enabled and user.passwords and not user.needs_no_password for user in self._services.access.all_users()
        )

    def _refused_here(self, principal: Principal, user: User | None, command: Command | None) -> CommandRefusal | None:
        if user is None or not user.enabled:
            return refusal_of(f"NOAUTH User {principal.user} does not exist or is off.")
        if command is not None and command.name in CONNECTION_COMMANDS:
            return refusal_of(f"ERR '{command.name}' concerns a connection; operators have none")
        return None

    def _unknown(self, words: Sequence[bytes]) -> CommandRefusal:
        if not words:
            return refusal_of("ERR empty command")
        error: CommandError = unknown_command(self._services, words)
        return refusal_of(str(error))


def _address(origin: str) -> str:
    """Return an origin as the address of a client, which has no spaces."""
    return re.sub(r"[^!-~]", "_", origin)[:MAX_ORIGIN] or "operator"
