"""
The execution of the requests of one connection, in order.

One chunk of input executes the requests that it completes, for some milliseconds, and their replies are written in one
piece. A request that takes longer than that (:class:`~txsentinel.server.replies.Stepwise`) goes on in later turns.
In a nested poll (``IHost.nested_poll_active``) requests that need a decision of the core wait for a turn of their own.
A reply that waits for the disk keeps its position; the requests behind it are executed, up to a limit, and their
replies wait with it. Events that a command causes follow its reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from txsentinel.core.errors import CommandError
from txsentinel.model.timings import Millis
from txsentinel.server.admission import PSEUDO_HTTP, TOO_MUCH_INPUT
from txsentinel.server.clients import Client, ReplySetting
from txsentinel.server.dispatch import find_command
from txsentinel.server.handlers import BoundHandler
from txsentinel.server.output import Output
from txsentinel.server.pacing import LARGE_CHUNK, MAX_WRITE_BYTES, TIME_SLICE_MS
from txsentinel.server.replies import Reply, Stepwise
from txsentinel.server.reply_writer import ReplyWriter
from txsentinel.server.request_cache import REPEATABLE
from txsentinel.server.services import ConnectionServices
from txsentinel.server.specification import Command
from txsentinel.server.stepped_request import SteppedRequest
from txsentinel.wire.requests import ProtocolError, PseudoHttp, QueryBufferExceeded, RequestParser
from txsentinel.wire.resp import ErrorReply, Raw, encode, pack

if TYPE_CHECKING:
    from txsentinel.wire.resp import Value

LINE_END: Final = b"\r\n"
PIPELINED: Final = LINE_END + b"*"
"""The end of a request and the beginning of another."""


class RequestExecutor:
    """
    Parses the input of one client, executes its requests, and passes on the replies.

    :param transport: the transport of the connection, whose input is paused while the client has to wait.
    """

    def __init__(
        self,
        services: ConnectionServices,
        handlers: Mapping[Command, BoundHandler],
        client: Client,
        transport: Any,
    ) -> None:
        self._services = services
        self._statistics = services.statistics
        self._handlers = handlers
        self._client = client
        self._transport = transport
        self._parser = RequestParser(services.limits)
        self._parser.authenticated = client.authenticated
        self._output = Output(transport, self.proceed)
        self.writer = ReplyWriter(services, client, self._output, self._reply_resolved)
        self._replies = self.writer.queue
        self._executing = False
        self._reading = True
        self._turn_began: Millis = 0
        self.low_priority = False
        """Whether the client sends commands that need decisions of the core, as peers do; then it may wait."""

        self._postponed: Sequence[bytes] | None = None
        """A request that arrived in a nested poll and needs a decision of the core."""

        self._execution: SteppedRequest | None = None
        """The request whose execution takes several turns."""

        self._resuming = False
        """Whether a call that resumes execution is scheduled."""

        self.closing = False

    @property
    def buffered(self) -> int:
        """Bytes of input whose execution has not finished."""
        return self._parser.buffered + (0 if self._execution is None else self._execution.cost)

    def start(self) -> None:
        """Begin to write."""
        self._output.start()

    def login_changed(self) -> None:
        """Apply the limits for authenticated clients after a login without a command."""
        self._parser.authenticated = self._client.authenticated

    def receive(self, data: bytes) -> None:
        """Execute the requests that this input completes."""
        if self.closing:
            return
        services = self._services
        statistics = self._statistics
        statistics.reads += 1
        statistics.input_bytes += len(data)
        self._client.input_bytes += len(data)
        self._client.last_active = self._turn_began = services.host.now()
        parser = self._parser
        at_rest = parser.at_rest
        if at_rest:
            cached = services.request_cache.find(data)
            pipeline = cached is None and PIPELINED in data and len(data) <= LARGE_CHUNK
            if (
                (pipeline or cached is not None)
                and self._reading
                and not self._replies.waiting
                and not self._output.unsent
                and services.clients.paused_until is None
                and not services.hub.backlog
            ):
                # No earlier request or reply is pending.
                if cached is not None:
                    self._execute_cached(*cached)
                    return
                data = self._execute_pipeline(data)
                if not data:
                    return
        try:
            parser.feed(data)
        except QueryBufferExceeded:
            self._statistics.query_limit_disconnections += 1
            self._abort_logged(TOO_MUCH_INPUT)
            return
        if self._reading:
            if len(data) > LARGE_CHUNK:
                self._resume_later()
            else:
                self._execute_all(data if at_rest else b"")

    def push(self, encoded: bytes) -> None:
        """Send a frame that is no reply to a command, after the replies that are waiting."""
        if self.closing:
            return
        self._replies.add(encoded)
        if not self._executing:
            self._flush()

    def finish(self) -> None:
        """Read no further, and close when all requests are answered."""
        if not self.closing:
            self._services.hub.catch_up(self._client)
        self.closing = True
        if not self._executing:
            self._flush()

    def abort(self) -> None:
        """Close now; unsent output is lost."""
        self.closing = True
        self._execution = None
        self.writer.abort()

    def proceed(self) -> None:
        """Resume execution when the output has space again or the pause is over."""
        if not self._reading and not self._executing and (not self.closing or self._execution is not None):
            self._turn_began = self._services.host.now()
            self._execute_all()

    def check_output(self, now: Millis) -> None:
        """Abort the connection if its unsent output exceeds the limits of its class."""
        if self.writer.exceeds_limit(now):
            self.abort()

    def connection_lost(self) -> None:
        """Drop all input and output."""
        self.closing = True
        self._postponed = self._execution = None
        # The garbage collector may free this object much later.
        self._parser.discard()
        self.writer.discard()

    def _execute_cached(self, request: Sequence[bytes], command: Command) -> None:
        """
        Execute one request from the cache; only the permission of the client remains to be checked.

        This is a shorter path of :meth:`_execute_all` for the most frequent requests.
        """
        services, client = self._services, self._client
        if not self._is_ordinary(client):
            self._executing = True
            try:
                self._execute(request)
            finally:
                self._executing = False
            self._flush()
            return
        client.last_command = command
        self._statistics.commands_processed += 1
        value: Reply
        try:
            value = self._handlers[command](client, request)
        except CommandError as error:
            value = ErrorReply(str(error))
        if value.__class__ is Raw:
            client.commands_processed += 1
            self.writer.write(value.data)
        elif value.__class__ is Stepwise:
            self._execution = SteppedRequest(value, command, self._parser.cost)
            self._execute_all()
        else:
            client.commands_processed += 1
            self.writer.answer(value)
            self.writer.write_ready()
        if self._output.unsent:
            self.check_output(services.host.now())

    def _is_ordinary(self, client: Client) -> bool:
        """Whether the client may execute every command, and gets its usual reply."""
        return (
            client.reply_setting is ReplySetting.ON
            and client.authenticated
            and client.account.unrestricted
            and not client.channels
            and not client.patterns
        )

    def _execute_pipeline(self, data: bytes) -> bytes:
        """
        Execute the cached requests at the beginning of the input whose replies are short; return the rest.

        Equal requests that follow each other are executed once, and their reply is repeated. If there is a rest, the
        replies are only queued.
        """
        services, client, statistics = self._services, self._client, self._statistics
        if not self._is_ordinary(client):
            return data
        find = services.request_cache.find
        replies: list[bytes] = []
        start, size = 0, len(data)
        while start < size:
            # The beginning of the next request. If it is part of a word, the cache does not have what is before it.
            following = data.find(PIPELINED, start)
            end = following + len(LINE_END) if following >= 0 else size
            request = data[start:end]
            cached = find(request)
            if cached is None or cached[1].name not in REPEATABLE:
                break
            words, command = cached
            count = 1
            if data.startswith(request, end):
                count = (size - start) // len(request)
                if not data.startswith(request * count, start):
                    count = 2
                    while data.startswith(request, start + count * len(request)):
                        count += 1
            client.last_command = command
            statistics.commands_processed += count
            value: Reply
            try:
                value = self._handlers[command](client, words)
            except CommandError as error:
                value = ErrorReply(str(error))
                statistics.error_replies += count
            client.commands_processed += count
            replies.append(
                (value.data if isinstance(value, Raw) else encode(cast("Value", value), client.protocol)) * count
            )
            start += count * len(request)
        if not replies:
            return data
        if start == size:
            self.writer.write(b"".join(replies))
            if self._output.unsent:
                self.check_output(services.host.now())
        else:
            self._replies.add(b"".join(replies))
        return data[start:]

    def _execute_all(self, chunk: bytes = b"") -> None:
        """
        Execute requests until none is complete, or until the client has to wait.

        :param chunk: the whole buffered input, if it begins with a request; otherwise empty.
        """
        self._executing = True
        try:
            if not self._must_wait():
                self._execute_some(chunk)
        except PseudoHttp:
            self._abort_logged(PSEUDO_HTTP)
        except QueryBufferExceeded:
            self._statistics.query_limit_disconnections += 1
            self._abort_logged(TOO_MUCH_INPUT)
        except ProtocolError as error:
            self.writer.answer(ErrorReply(f"ERR {error}"))
            self.closing = True
        finally:
            self._executing = False
        self._flush()

    def _execute_some(self, chunk: bytes) -> None:
        parser, replies, clients = self._parser, self._replies, self._services.clients
        host, hub = self._services.host, self._services.hub
        until = self._turn_began + TIME_SLICE_MS
        while not self.closing or self._execution is not None:
            if hub.backlog and not hub.catch_up(self._client):
                # The client gets the earlier events before the reply.
                self._set_reading(False)
                return
            if self._execution is not None:
                if not self._continue(self._execution, until):
                    return
                continue
            request = self._next_request()
            if request is None:
                self._set_reading(True)
                return
            command = self._execute(request)
            if self._postponed is not None:
                self._resume_later()
                return
            if chunk:
                if command is not None and (parser.at_rest or command.name in REPEATABLE):
                    # The first request of a pipeline is cached in the form in which clients send it.
                    whole = chunk if parser.at_rest else pack(*request)
                    self._services.request_cache.keep(whole, request, command)
                chunk = b""
            if parser.buffered and host.now() > until:
                # The time slice has passed: serve other clients first.
                self._resume_later()
                return
            if replies.size > MAX_WRITE_BYTES:
                self.writer.write_ready()
            elif not replies.waiting and clients.paused_until is None:
                continue
            if self._must_wait():
                return

    def _next_request(self) -> Sequence[bytes] | None:
        """
        Return the postponed request, or else the next one of the input.

        Resetting the attribute in a method of its own keeps mypy, and so mypyc, from taking it for ``None`` where
        the caller tests it later.
        """
        postponed, self._postponed = self._postponed, None
        return postponed or self._parser.next_request()

    def _continue(self, execution: SteppedRequest, until: Millis) -> bool:
        """
        Continue the request that is being executed.

        :returns: whether it is done; if not, it continues in a later turn, or when the output has space again.
        """
        services, command = self._services, execution.command
        if command.acts and services.host.nested_poll_active:
            self._resume_later()
            return False
        value: Reply
        try:
            value = execution.proceed(services.host.now, until, self._send_piece)
        except CommandError as error:
            value = ErrorReply(str(error))
        if command.acts:
            services.turn()
        if self._execution is None:
            return True  # The connection was lost meanwhile.
        if value.__class__ is Stepwise:
            if not self._must_wait():
                self._resume_later()
            return False
        self._execution = None
        self._reply_to(value, command)
        return True

    def _send_piece(self, piece: bytes) -> bool:
        """Queue a part of a reply; return whether the output accepts more."""
        if self._client.reply_setting is ReplySetting.ON:
            self._replies.add(piece)
            if self._replies.size > MAX_WRITE_BYTES:
                self.writer.write_ready()
                return not self._must_wait()
        return True

    def _resume_later(self) -> None:
        """Resume execution in the next turn, unless :meth:`proceed` is called before."""
        self._set_reading(False)
        if not self._resuming:
            self._resuming = True
            self._services.rounds.add(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        self.proceed()

    def _must_wait(self) -> bool:
        """Whether the output is full or clients are paused; if so, stop reading."""
        if not self.writer.is_full():
            self._client.paused = self._services.clients.paused_until is not None
            if not self._client.paused:
                return False
        self._set_reading(False)
        return True

    def _set_reading(self, enabled: bool) -> None:
        """Resume or pause the delivery of input."""
        if self._reading is enabled:
            return
        self._reading = enabled
        if enabled:
            self._transport.resumeProducing()
        else:
            self._transport.pauseProducing()

    def _execute(self, request: Sequence[bytes]) -> Command | None:
        """Execute one request; return its command, ``None`` if it was refused or postponed."""
        services, client = self._services, self._client
        if client.reply_setting is ReplySetting.SKIP_NEXT:
            client.reply_setting = ReplySetting.SKIPPING
        command: Command | None = None
        value: Reply
        try:
            command = find_command(services, client, request, self._parser.longest)
            if command.acts and services.host.nested_poll_active:
                self._postponed = request
                return None
            self._statistics.commands_processed += 1
            value = self._handlers[command](client, request)
        except CommandError as error:
            value = ErrorReply(str(error))
        if value.__class__ is Stepwise:
            assert command is not None
            self._execution = SteppedRequest(value, command, self._parser.cost)
        else:
            self._reply_to(value, command)
        return command

    def _reply_to(self, value: Reply, command: Command | None) -> None:
        """Reply to a request as CLIENT REPLY demands, and execute the decisions of the core that follow from it."""
        services, client = self._services, self._client
        if client.reply_setting is ReplySetting.ON:
            if value.__class__ is Raw:
                self._replies.add(value.data)
            else:
                self.writer.answer(value)
        else:
            if client.reply_setting is ReplySetting.SKIPPING:
                client.reply_setting = ReplySetting.ON
            self.writer.suppress(value)
        if command is not None:
            client.commands_processed += 1
            if command.special:
                self._parser.authenticated = client.authenticated
                self.low_priority = command.acts
                if command.acts:
                    services.turn()

    def _flush(self) -> None:
        if self.writer.flush():
            self.check_output(self._services.host.now())
        if self.closing and not self._replies.waiting and self._execution is None:
            self._output.close()

    def _reply_resolved(self) -> None:
        """Write a reply that was deferred, and execute the requests that waited for it."""
        if not self._executing:
            self._flush()
            self.proceed()

    def _abort_logged(self, why: str) -> None:
        """Abort the connection of a client that violates the protocol or a limit; ``why`` is the log format."""
        self._services.log_throttle.warn(self._services.host.now(), why, address=self._client.address)
        self.abort()
