"""One client of a simulated Redis: parsing, checks before a command, transactions, and subscriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone

from txsentinel.model.timings import Limits
from txsentinel.sim.redis.table import SimCommand
from txsentinel.wire.requests import ProtocolError, PseudoHttp, RequestParser
from txsentinel.wire.resp import ErrorReply, Push, Raw, Simple, Value, encode, text

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from txsentinel.sim.tcp import SimTransport

_LIMITS: Final = Limits()

_OUTSIDE_TRANSACTIONS: Final = frozenset(("EXEC", "DISCARD", "MULTI", "WATCH", "QUIT", "RESET"))
"""Commands that are never queued."""

_MAX_KNOWN: Final = 16
"""Chunks of bytes that a connection recognises as requests that it has parsed before."""

_MAX_KNOWN_BYTES: Final = 512
"""Length in bytes of the longest chunk that is recognised."""


@dataclass(slots=True, eq=False)
class Attached:
    """What a master knows about a client that is a replica."""

    listening_port: int = 0
    announced_ip: str = ""
    state: str = "handshake"
    """``wait_bgsave``, ``send_bulk`` or ``online``; before that it is no replica yet."""
    acknowledged: int = 0
    """Bytes of the stream that it has acknowledged."""
    acknowledged_at: float = 0.0
    """Seconds of the reactor's clock."""
    backlog: bytes = b""
    """Stream written while the full copy for it was being made."""


_Request: TypeAlias = "tuple[SimCommand | None, list[bytes]]"
"""The command, if it exists, and all words of the request."""


class ClientServer(Protocol):
    """What a connection asks of its server."""

    @property
    def commands(self) -> Mapping[str, SimCommand]:
        """All commands by upper-case name."""

    @property
    def paused(self) -> bool:
        """Whether any commands are held."""

    def holds(self, client: RedisClient, changes: bool) -> bool:
        """Whether a pause holds this client's next command; ``changes`` is whether that is a write."""

    def refusal(self, client: RedisClient, command: SimCommand | None, words: list[bytes]) -> str | None:
        """The error that is replied before the command is executed, if any."""

    def postponed(self, client: RedisClient) -> None:
        """A pause holds the command of this client."""

    def forget(self, client: RedisClient) -> None:
        """Remove a connection that is closed or closing."""


class RedisClient(TwistedProtocol):
    """
    The server's side of one connection.

    :param connected_at: seconds of the reactor's clock.
    :param authenticated: whether the server requires no password.
    """

    def __init__(
        self, server: ClientServer, number: int, ip: str, port: int, connected_at: float, authenticated: bool
    ) -> None:
        self.server = server
        self.number = number
        self.ip = ip
        self.port = port
        self.name = ""
        self.resp = 2
        self.connected_at = connected_at
        self.last_command = ""
        self.authenticated = authenticated
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.queue: list[tuple[SimCommand, list[bytes]]] | None = None
        """Commands since MULTI."""
        self.dirty_exec = False
        """Whether a command since MULTI was refused, so that EXEC fails."""
        self.attached = Attached()
        self.closing = False
        self._parser = RequestParser(_LIMITS)
        self._parser.authenticated = self.authenticated
        self._known: dict[bytes, list[_Request]] = {}
        self._held: Iterator[_Request] | None = None
        """What a pause holds back: the request that it met, and those that came in one chunk with it."""
        self._output: list[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RedisClient {self.number} {self.ip}:{self.port}>"

    @property
    def address(self) -> str:
        """``ip:port``."""
        return f"{self.ip}:{self.port}"

    @property
    def replica_host(self) -> str:
        """The address of a replica: the announced one, or the one it connects from."""
        return self.attached.announced_ip or self.ip

    @property
    def is_replica(self) -> bool:
        """Whether it has asked for the stream."""
        return self.attached.state != "handshake"

    @property
    def subscriptions(self) -> int:
        """The number of channels and patterns."""
        return len(self.channels) + len(self.patterns)

    @property
    def kind(self) -> str:
        """The type, as in ``CLIENT KILL TYPE``."""
        return "replica" if self.is_replica else "pubsub" if self.subscriptions else "normal"

    def set_authenticated(self) -> None:
        """Mark the client as authenticated."""
        self.authenticated = self._parser.authenticated = True

    # Protocol

    def dataReceived(self, data: bytes) -> None:
        """Parse requests and execute those that are complete."""
        if self.closing:
            return
        if self._held is None and self.authenticated and not self._parser.buffered and not self.server.paused:
            known = self._known.get(data)
            if known is not None:
                self._serve(iter(known))
            elif len(data) <= _MAX_KNOWN_BYTES:
                self._learn(data)
            else:
                self._parser.feed(data)
                self._serve(self._requests())
            return
        self._parser.feed(data)
        if self._held is None:
            self._serve(self._requests())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client disconnected."""
        self.closing = True
        self.server.forget(self)

    def send(self, raw: bytes) -> None:
        """Send a reply, in the order of the requests."""
        if self._output is not None:
            self._output.append(raw)
        elif not self.closing:
            cast("SimTransport", self.transport).write(raw)

    def push(self, *items: Value) -> None:
        """Send data that answers no command, such as a message of a channel."""
        self.send(encode(Push(items), self.resp))

    def kill(self) -> None:
        """Close, as CLIENT KILL does; a client that kills itself still gets its reply."""
        self.server.forget(self)
        self.closing = True
        if self._output is None:
            cast("SimTransport", self.transport).loseConnection()

    def resume(self) -> None:
        """Execute the held command: the pause is over."""
        held, self._held = self._held, None
        if held is not None and not self.closing:
            self._serve(chain(held, self._requests()))

    def _learn(self, data: bytes) -> None:
        """Execute a chunk; cache its requests if it was parsed to its end."""
        seen: list[_Request] = []

        def noted() -> Iterator[_Request]:
            for request in self._requests():
                seen.append(request)
                yield request

        self._parser.feed(data)
        self._serve(noted())
        if not self.closing and self._held is None and not self._parser.buffered:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[data] = seen

    def _requests(self) -> Iterator[_Request]:
        """The requests that are complete."""
        commands = self.server.commands
        while (words := self._parser.next_request()) is not None:
            yield commands.get(text(words[0]).upper()), words

    def _serve(self, requests: Iterator[_Request]) -> None:
        output = self._output = []
        try:
            for request in requests:
                if not self._execute(*request):
                    self._held = chain((request,), requests)
                    self.server.postponed(self)
                    break
                if self.closing:
                    break
        except PseudoHttp:
            self.closing = True
        except ProtocolError as error:
            output.append(encode(ErrorReply(f"ERR {error}")))
            self.closing = True
        finally:
            self._output = None
        transport = cast("SimTransport", self.transport)
        if output:
            transport.write(output[0] if len(output) == 1 else b"".join(output))
        if self.closing:
            transport.loseConnection()

    # Checks

    def _execute(self, command: SimCommand | None, words: list[bytes]) -> bool:
        """Answer one request; return False if it has to wait, with all requests after it."""
        refusal = self.server.refusal(self, command, words)
        if refusal is not None:
            if command is not None and command.name == "EXEC":
                refusal = "EXECABORT Transaction discarded because of: " + refusal
                self.queue, self.dirty_exec = None, False
            elif self.queue is not None:
                self.dirty_exec = True
            self.send(encode(ErrorReply(refusal)))
            return True
        assert command is not None
        server = self.server
        if server.paused and server.holds(self, self._changes(command)):
            return False
        self.last_command = command.word
        if self.queue is not None and command.name not in _OUTSIDE_TRANSACTIONS:
            self.queue.append((command, words))
            self.send(encode(Simple("QUEUED")))
        else:
            value = command.function(server, self, words)
            self.send(value.data if isinstance(value, Raw) else encode(value, self.resp))
        return True

    def _changes(self, command: SimCommand) -> bool:
        """Whether a pause of writes holds it."""
        if command.name == "EXEC":
            return self.has_queued("writes", "replicates")
        return command.writes or command.replicates

    def has_queued(self, *flags: str) -> bool:
        """Whether a command since MULTI has one of these flags."""
        return self.queue is not None and any(getattr(command, flag) for command, _ in self.queue for flag in flags)
