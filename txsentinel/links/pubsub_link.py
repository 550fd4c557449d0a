"""The Pub/Sub connection to a server."""

from __future__ import annotations

from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.links import encoded_commands
from txsentinel.links.connection import LinkConnection
from txsentinel.links.context import LinkContext
from txsentinel.model.failure import LinkFailure, class_of_reply
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.hello import HELLO_CHANNEL, whole_messages
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine, Status


class PubSubLink(LinkConnection):
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
            self.factory.command_accepted("SUBSCRIBE")
            self.link.refusals.pop("SUBSCRIBE", None)
        elif isinstance(reply, ErrorLine):
            error = excerpt(text(reply))
            self.factory.command_refused(
                "SUBSCRIBE",
                error,
                f"No hellos are received through {self.link.address.joined()}: SUBSCRIBE was answered by {error}",
            )
            # Close at once, so that the link appears as disconnected, as in C. The factory connects and authenticates
            # again one ping period after this connection was made; permission or password may be correct by then.
            self.failure = class_of_reply(error)
            self.link.refusals["SUBSCRIBE"] = LinkFailure(self.failure, f"SUBSCRIBE: {error}", now)
            self.reconnect(f"SUBSCRIBE was answered by {error}")
        else:
            self.drop("SUBSCRIBE was not answered by a confirmation")

    def _ping_answered(self, reply: object, now: Millis) -> None:
        if isinstance(reply, list) and reply[:1] == [b"pong"]:
            # A subscribed connection gets a frame with the name of the command in lower case.
            reply = Status(b"PONG")
        super()._ping_answered(reply, now)
