"""
The server side of a connection: bytes in, requests executed in order, replies out.

One call of ``dataReceived`` executes the requests that it completes, for some milliseconds, and writes their replies in
one piece. A request that takes longer than that (:class:`~txsentinel.server.replies.Stepwise`) goes on in later turns.
In a nested poll (``IHost.nested_poll_active``) requests that need a decision of the core wait for a turn of their own.
A reply that waits for the disk keeps its position; the requests behind it are executed, up to a limit, and their
replies wait with it. Events that a command causes follow its reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from txsentinel.core.errors import CommandError
from txsentinel.model.timings import Millis
from txsentinel.server.admission import PSEUDO_HTTP, TOO_MUCH_INPUT, keep_alive, new_client, recognize, refusal
from txsentinel.server.clients import Answering, Client
from txsentinel.server.context import ServerContext
from txsentinel.server.dispatch import admitted
from txsentinel.server.execution import Execution
from txsentinel.server.output import Output
from txsentinel.server.pacing import LARGE_CHUNK, MAX_WAITING, MAX_WRITE_BYTES, TIME_SLICE_MS, is_cut_off, max_unsent
from txsentinel.server.replies import NO_REPLY, Channels, DeferredReply, HeldReply, Reply, ReplyQueue, Stepwise
from txsentinel.server.table import Command
from txsentinel.wire.requests import ProtocolError, PseudoHttp, QueryBufferExceeded, RequestParser
from txsentinel.wire.resp import ErrorReply, Raw, Value, encode


class SentinelProtocol(Protocol):
    """One client connection."""

    client: Client

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._parser = RequestParser(context.limits)
        self._replies = ReplyQueue()
        self._admitted = False
        self._executing = False
        self._reading = True
        self._turn_began: Millis = 0
        self.low_priority = False
        """Does it ask for decisions, as peers do, and not just for answers? Then it may wait for its turn."""

        self._postponed: Sequence[bytes] | None = None
        """A request that came in passing and calls for more than that."""

        self._execution: Execution | None = None
        """A request that takes several turns."""

        self._resuming = False
        """Is there a call under way that resumes execution in the next turn?"""

        self.closing = False

    # What Twisted tells.

    def connectionMade(self) -> None:
        """Register the client, or send it away."""
        context = self._context
        transport: Any = self.transport
        context.statistics.connections_received += 1
        self._output = Output(transport, self.proceed)
        turned_away = refusal(context, transport.getPeer())
        if turned_away is not None:
            context.statistics.connections_rejected += 1
            self.closing = True
            if not ISSLTransport.providedBy(transport):
                transport.write(turned_away)
            transport.loseConnection()
            return
        self.client = new_client(context, self, transport.getPeer(), transport.getHost())
        self._admitted = True
        self._parser.authenticated = self.client.authenticated
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            keep_alive(transport, context.options.tcp_keepalive)
        self._output.start()

    def handshakeCompleted(self) -> None:
        """The client came by TLS; its certificate, if it showed one, may say which user it is."""
        if self._admitted and not self.closing:
            recognize(self._context, self.client, self.transport)
            self._parser.authenticated = self.client.authenticated

    def dataReceived(self, data: bytes) -> None:
        """Execute what is complete."""
        if self.closing:
            return
        context = self._context
        statistics = context.statistics
        statistics.reads += 1
        statistics.input_bytes += len(data)
        self.client.input_bytes += len(data)
        self.client.last_active = self._turn_began = context.host.now()
        parser = self._parser
        at_rest = parser.at_rest
        if at_rest:
            request_cache = context.request_cache.find(data)
            if request_cache is not None and self._unhindered():
                self._execute_cached(*request_cache)
                return
        try:
            parser.feed(data)
        except QueryBufferExceeded:
            self._context.statistics.query_limit_disconnections += 1
            self._cut_off(TOO_MUCH_INPUT)
            return
        if self._reading:
            if len(data) > LARGE_CHUNK:
                self._go_on_later()
            else:
                self._execute_all(data if at_rest else b"")

    def readConnectionLost(self) -> None:
        """The client will send no more: answer what it asked, then close."""
        self.finish()

    def writeConnectionLost(self) -> None:
        """The client reads no more: there is nobody to talk to."""
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the client."""
        self.closing = True
        self._output.forget()
        self._replies.clear()
        self._postponed = self._execution = None
        # The garbage collector may leave us lying around for long.
        self._parser.discard()
        if self._admitted:
            self._context.hub.leave(self.client)
            self._context.clients.leave(self.client)

    # What the rest of the server asks for.

    @property
    def buffered(self) -> int:
        """Bytes of input that are not executed yet, or not to the end."""
        return self._parser.buffered + (0 if self._execution is None else self._execution.cost)

    @property
    def queued(self) -> int:
        """Pieces of output that wait for the client to read, or for an earlier reply."""
        return self._output.pieces + len(self._replies.waiting)

    @property
    def unsent(self) -> int:
        """Bytes of output that the client has not made room for, or that wait for an earlier reply."""
        return self._output.unsent + self._replies.size

    @property
    def descriptor(self) -> int:
        """The file descriptor, or −1 if the transport has none."""
        number = getattr(self.transport, "fileno", None)
        return number() if callable(number) else -1

    def push(self, encoded: bytes) -> None:
        """Send a frame that answers no command, behind the replies that wait already."""
        if self.closing:
            return
        self._replies.add(encoded)
        if not self._executing:
            self._flush()

    def finish(self) -> None:
        """Read no more, and close once everything is answered."""
        if self._admitted and not self.closing:
            self._context.hub.catch_up(self.client)
        self.closing = True
        if not self._executing:
            self._flush()

    def abort(self) -> None:
        """Close now; what is unsent is lost."""
        self.closing = True
        self._execution = None
        self._replies.clear()
        self._output.abort()

    def proceed(self) -> None:
        """There is room, or the pause is over: go on where reading was stopped."""
        if not self._reading and not self._executing and (not self.closing or self._execution is not None):
            self._turn_began = self._context.host.now()
            self._execute_all()

    def check_output(self, now: Millis) -> None:
        """Cut the client off if it has left more unread than its class may."""
        if is_cut_off(self._context, self.client, self.unsent, now):
            self.abort()

    # How requests are executed.

    def _unhindered(self) -> bool:
        """Is there nothing at all that a request would have to wait for?"""
        return (
            self._reading
            and not self._replies.waiting
            and not self._output.unsent
            and self._context.clients.paused_until is None
            and not self._context.hub.backlog
        )

    def _execute_cached(self, request: Sequence[bytes], command: Command) -> None:
        """
        Execute the one request that there is, of which everything is known but whether this client may.

        What :meth:`_execute_all` does for any number of any requests, in fewer steps.
        """
        context, client = self._context, self.client
        if (
            client.answering is not Answering.ON
            or not client.authenticated
            or not client.account.unrestricted
            or client.channels
            or client.patterns
        ):
            self._executing = True
            try:
                self._execute(request)
            finally:
                self._executing = False
            self._flush()
            return
        client.last_command = command
        statistics = context.statistics
        statistics.commands_processed += 1
        value: Reply
        try:
            value = command.function(context, client, request)
        except CommandError as error:
            value = ErrorReply(str(error))
        if value.__class__ is Raw:
            client.commands_processed += 1
            statistics.writes += 1
            statistics.output_bytes += len(value.data)
            client.output_bytes += len(value.data)
            self._output.write(value.data)
        elif value.__class__ is Stepwise:
            self._execution = Execution(value, command, self._parser.cost)
            self._execute_all()
        else:
            client.commands_processed += 1
            self._answer(value)
            self._hand_on()
        if self._output.unsent:
            self.check_output(context.host.now())

    def _execute_all(self, chunk: bytes = b"") -> None:
        """
        Execute requests until there is none, or until the client has to wait.

        :param chunk: all the input that there is, if it begins with a request.
        """
        self._executing = True
        try:
            if not self._must_wait():
                self._execute_some(chunk)
        except PseudoHttp:
            self._cut_off(PSEUDO_HTTP)
        except QueryBufferExceeded:
            self._context.statistics.query_limit_disconnections += 1
            self._cut_off(TOO_MUCH_INPUT)
        except ProtocolError as error:
            self._answer(ErrorReply(f"ERR {error}"))
            self.closing = True
        finally:
            self._executing = False
        self._flush()

    def _execute_some(self, chunk: bytes) -> None:
        parser, replies, clients = self._parser, self._replies, self._context.clients
        host, hub = self._context.host, self._context.hub
        until = self._turn_began + TIME_SLICE_MS
        while not self.closing or self._execution is not None:
            if hub.backlog and not hub.catch_up(self.client):
                # It shall hear of events before it is answered what came after them.
                self._read(False)
                return
            if self._execution is not None:
                if not self._continue(self._execution, until):
                    return
                continue
            request = self._next_request()
            if request is None:
                self._read(True)
                return
            command = self._execute(request)
            if self._postponed is not None:
                self._go_on_later()
                return
            if chunk:
                if command is not None and parser.at_rest:
                    self._context.request_cache.keep(chunk, request, command)
                chunk = b""
            if parser.buffered and host.now() > until:
                # Not before the others had their turn.
                self._go_on_later()
                return
            if replies.size > MAX_WRITE_BYTES:
                self._hand_on()
            elif not replies.waiting and clients.paused_until is None:
                continue
            if self._must_wait():
                return

    def _next_request(self) -> Sequence[bytes] | None:
        """
        Return the request that was postponed, or else the next one of the input.

        Resetting the attribute in a method of its own keeps mypy, and so mypyc, from taking it for ``None`` where
        the caller tests it later.
        """
        postponed, self._postponed = self._postponed, None
        return postponed or self._parser.next_request()

    def _continue(self, execution: Execution, until: Millis) -> bool:
        """
        Go on with the request that is being executed.

        :returns: whether it is done; if not, it goes on in a later turn, or once there is room for output.
        """
        context, command = self._context, execution.command
        if command.acts and context.host.nested_poll_active:
            self._go_on_later()
            return False
        value: Reply
        try:
            value = execution.proceed(context.host.now, until, self._send_piece)
        except CommandError as error:
            value = ErrorReply(str(error))
        if command.acts:
            context.turn()
        if self._execution is None:
            return True  # The connection was lost meanwhile.
        if value.__class__ is Stepwise:
            if not self._must_wait():
                self._go_on_later()
            return False
        self._execution = None
        self._give(value, command)
        return True

    def _send_piece(self, piece: bytes) -> bool:
        """Send a piece of an answer; returns whether there is room for more."""
        if self.client.answering is Answering.ON:
            self._replies.add(piece)
            if self._replies.size > MAX_WRITE_BYTES:
                self._hand_on()
                return not self._must_wait()
        return True

    def _go_on_later(self) -> None:
        """Execute what is left in the next turn; whatever else lets us proceed before that is welcome to, too."""
        self._read(False)
        if not self._resuming:
            self._resuming = True
            self._context.rounds.add(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        self.proceed()

    def _must_wait(self) -> bool:
        """Is too much of this client's on its way, or everybody to wait? Then it is not read any further."""
        replies = self._replies
        most = max_unsent(self.client)
        if len(replies.waiting) < MAX_WAITING and replies.size <= most and self._output.unsent <= most:
            self.client.paused = self._context.clients.paused_until is not None
            if not self.client.paused:
                return False
        self._read(False)
        return True

    def _read(self, wanted: bool) -> None:
        """Have the transport deliver input, or keep it back."""
        if self._reading is wanted:
            return
        self._reading = wanted
        transport: Any = self.transport
        if wanted:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    def _execute(self, request: Sequence[bytes]) -> Command | None:
        """Execute one request; returns the command that was run, ``None`` if it was refused."""
        context, client = self._context, self.client
        if client.answering is Answering.SKIP_NEXT:
            client.answering = Answering.SKIPPING
        command: Command | None = None
        value: Reply
        try:
            command = admitted(context, client, request, self._parser.longest)
            if command.acts and context.host.nested_poll_active:
                self._postponed = request
                return None
            context.statistics.commands_processed += 1
            value = command.function(context, client, request)
        except CommandError as error:
            value = ErrorReply(str(error))
        if value.__class__ is Stepwise:
            assert command is not None
            self._execution = Execution(value, command, self._parser.cost)
        else:
            self._give(value, command)
        return command

    def _give(self, value: Reply, command: Command | None) -> None:
        """Answer a request unless the client does not want that, and see to what follows from it."""
        context, client = self._context, self.client
        if client.answering is Answering.ON:
            if value.__class__ is Raw:
                self._replies.add(value.data)
            else:
                self._answer(value)
        else:
            if client.answering is Answering.SKIPPING:
                client.answering = Answering.ON
            if isinstance(value, Channels):
                self._hold_silently(value)
        if command is not None:
            client.commands_processed += 1
            if command.special:
                self._parser.authenticated = client.authenticated
                self.low_priority = command.acts
                if command.acts:
                    context.turn()

    def _answer(self, value: Reply) -> None:
        if isinstance(value, Channels):
            self._hold(value)
        elif isinstance(value, DeferredReply):
            value.answer.addCallback(self._reserve_reply())
            value.answer.addErrback(self._context.host.fail_stop, "the answer to a command")
        elif value is not NO_REPLY and not isinstance(value, Stepwise):
            self._replies.add(self._encoded(value, self.client.protocol))

    def _encoded(self, value: Value, protocol: int) -> bytes:
        if isinstance(value, ErrorReply):
            self._context.statistics.error_replies += 1
        return encode(value, protocol)

    def _hold(self, held: Channels) -> None:
        released, failed = held.outcomes(self._reserve_reply())
        self._context.barrier.defer_reply(held.generation, released, failed, held.undo, held.since)

    def _hold_silently(self, held: Channels) -> None:
        """Nobody wants to read the reply; what could not be saved is undone all the same."""
        self._context.barrier.defer_reply(held.generation, lambda: None, lambda: None, held.undo, held.since)

    def _reserve_reply(self) -> Callable[[Value], None]:
        """Keep the place of an answer; the protocol version is that of the moment of the request."""
        return partial(self._resolve, self._replies.defer_reply(), self.client.protocol)

    def _resolve(self, place: HeldReply, protocol: int, value: Value) -> None:
        self._replies.resolve(place, self._encoded(value, protocol))
        if not self._executing:
            self._flush()
            self.proceed()

    # How replies go out.

    def _hand_on(self) -> None:
        """Give the transport what is ready."""
        ready = self._replies.take()
        if ready:
            statistics = self._context.statistics
            statistics.writes += 1
            statistics.output_bytes += len(ready)
            self.client.output_bytes += len(ready)
            self._output.write(ready)

    def _flush(self) -> None:
        self._hand_on()
        if self._output.unsent or self._replies.size > MAX_WRITE_BYTES:
            self.check_output(self._context.host.now())
        if self.closing and not len(self._replies.waiting) and self._execution is None:
            self._output.close()

    def _cut_off(self, why: str) -> None:
        """Close the connection of a client that misbehaves; ``why`` is logged."""
        self._context.log_throttle.warn(self._context.host.now(), why, address=self.client.address)
        self.abort()


classImplements(SentinelProtocol, IHalfCloseableProtocol, IHandshakeListener)
