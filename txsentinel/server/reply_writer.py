"""The replies of one connection: encodes them, keeps them in the order of the requests, and writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from txsentinel.server.output import Output, no_callback
from txsentinel.server.output_limits import exceeds_output_limit
from txsentinel.server.pacing import MAX_WAITING, MAX_WRITE_BYTES, max_unsent
from txsentinel.server.replies import NO_REPLY, DeferredReply, DurableReply, HeldReply, Reply, ReplyQueue, Stepwise
from txsentinel.wire.resp import ErrorReply, Value, encode

if TYPE_CHECKING:
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.services import OutputServices


class ReplyWriter:
    """
    Takes the replies and the pushed messages of one client.

    :param resolved: called when a reply is known that was deferred.
    """

    __slots__ = ("_client", "_output", "_resolved", "_services", "_statistics", "queue")

    def __init__(self, services: OutputServices, client: Client, output: Output, resolved: Callable[[], None]) -> None:
        self._services = services
        self._statistics = services.statistics
        self._client = client
        self._output = output
        self._resolved = resolved
        self.queue = ReplyQueue()

    @property
    def pieces(self) -> int:
        """Number of output chunks that are unsent or wait for an earlier reply."""
        return self._output.pieces + len(self.queue.waiting)

    @property
    def unsent(self) -> int:
        """Bytes of output that the transport has not accepted yet, or that wait for an earlier reply."""
        return self._output.unsent + self.queue.size

    def is_full(self) -> bool:
        """Whether so much waits to be sent that no further request should be executed."""
        queue, maximum = self.queue, max_unsent(self._client)
        return len(queue.waiting) >= MAX_WAITING or queue.size > maximum or self._output.unsent > maximum

    def answer(self, value: Reply) -> None:
        """Queue a reply, or reserve its position."""
        if isinstance(value, DurableReply):
            released, failed = value.outcomes(self._reserve())
            self._services.barrier.defer_reply(value.generation, released, failed, value.undo, value.since)
        elif isinstance(value, DeferredReply):
            value.answer.addCallback(self._reserve())
            value.answer.addErrback(self._services.host.fail_stop, "the answer to a command")
        elif value is not NO_REPLY and not isinstance(value, Stepwise):
            self.queue.add(self._encoded(value, self._client.protocol))

    def suppress(self, value: Reply) -> None:
        """Send no reply, as CLIENT REPLY demands, but undo the change of the command if it cannot be saved."""
        if isinstance(value, DurableReply):
            barrier = self._services.barrier
            barrier.defer_reply(value.generation, no_callback, no_callback, value.undo, value.since)

    def write(self, encoded: bytes) -> None:
        """Write encoded replies to the output, ahead of the queue, which must be empty."""
        statistics, client = self._statistics, self._client
        statistics.writes += 1
        statistics.output_bytes += len(encoded)
        client.output_bytes += len(encoded)
        self._output.write(encoded)

    def write_ready(self) -> None:
        """Write the replies that are known and wait for no earlier one."""
        ready = self.queue.take()
        if ready:
            self.write(ready)

    def flush(self) -> bool:
        """Write what is ready; return whether so much is left that the limits of the client must be checked."""
        self.write_ready()
        return self._output.unsent > 0 or self.queue.size > MAX_WRITE_BYTES

    def exceeds_limit(self, now: Millis) -> bool:
        """Whether the client must be disconnected because it reads too slowly."""
        return exceeds_output_limit(self._services, self._client, self.unsent, now)

    def discard(self) -> None:
        """Drop all replies after the connection is lost."""
        self._output.discard()
        self.queue.clear()
        # The callback refers to the connection, which refers to this object: break the cycle.
        self._resolved = no_callback

    def abort(self) -> None:
        """Drop all replies and close the connection now."""
        self.queue.clear()
        self._output.abort()

    def _encoded(self, value: Value, protocol: int) -> bytes:
        if isinstance(value, ErrorReply):
            self._statistics.error_replies += 1
        return encode(value, protocol)

    def _reserve(self) -> Callable[[Value], None]:
        """Reserve the position of a reply, which is encoded for the present protocol version."""
        return partial(self._resolve, self.queue.defer_reply(), self._client.protocol)

    def _resolve(self, place: HeldReply, protocol: int, value: Value) -> None:
        self.queue.resolve(place, self._encoded(value, protocol))
        self._resolved()
