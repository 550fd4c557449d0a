"""The replica's side of a replication link: parses the handshake, full copies and the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone

from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NeedMore, ReplyReader
from txsentinel.wire.resp import encode, pack, text
from txsentinel.wire.values import ErrorLine, Status

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from txsentinel.sim.tcp import SimTransport

_LIMITS: Final = Limits()

MAX_KNOWN: Final = 32
"""Chunks of the stream that a replica recognises as commands that it has parsed before."""


class StreamReceiver(Protocol):
    """The replication state that a link feeds."""

    @property
    def link_up(self) -> bool:
        """Whether the stream has begun."""

    def handshake(self) -> list[bytes]:
        """The encoded commands to send first; the last one is PSYNC."""

    def uses(self, link: MasterLink) -> bool:
        """Whether this is still the link in use."""

    def read_from_master(self) -> None:
        """A whole reply or command was read."""

    def copy_begins(self, history: str) -> None:
        """A full copy is on its way."""

    def copy_arrived(self, copy: bytes, offset: int) -> None:
        """A full copy has arrived."""

    def continues(self, history: str) -> None:
        """The master sends the rest of the stream; it may use another ID for the history."""

    def stream_arrived(self, words: list[bytes], raw: bytes) -> None:
        """A command of the stream arrived; ``raw`` are its bytes."""

    def refused(self, link: MasterLink) -> None:
        """The master refused PSYNC."""

    def link_failed(self, link: MasterLink) -> None:
        """The link broke, or what it received makes no sense."""


def _size(reply: object) -> int:
    """Length in bytes of a reply of a master: a line, a bulk, or a command of the stream."""
    if isinstance(reply, list):
        return len(pack(*reply))
    if isinstance(reply, Status | ErrorLine):
        return len(reply) + 3
    return len(encode(reply)) if isinstance(reply, bytes) else 0


class MasterLink(TwistedProtocol):
    """The replica's side of receiver."""

    def __init__(self, receiver: StreamReceiver) -> None:
        self._receiver = receiver
        self._reader = ReplyReader(_LIMITS)
        self._handshake = 0
        """Replies still to come before the one to PSYNC."""
        self._copy_offset = -1
        """The offset at which the current full copy ends; negative if there is none."""
        self._unread = 0
        """Received bytes that are not part of a parsed reply yet."""
        self._known: dict[bytes, list[bytes]] = {}
        """Chunks that consist of one command of the stream."""

    def connectionMade(self) -> None:
        """Send the handshake and request the missing part of the stream."""
        commands = self._receiver.handshake()
        self._handshake = len(commands) - 1
        self.write(b"".join(commands))

    def write(self, raw: bytes) -> None:
        """Send data to the master."""
        cast("SimTransport", self.transport).write(raw)

    def abandon(self) -> None:
        """Close the connection without reporting it."""
        cast("SimTransport", self.transport).loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Parse the replies of the handshake, then the stream."""
        receiver = self._receiver
        known = None if self._unread else self._known.get(data)
        if known is not None and receiver.uses(self):
            receiver.read_from_master()
            receiver.stream_arrived(known, data)
            return
        alone = not self._unread
        self._unread += len(data)
        self._reader.feed(data)
        while receiver.uses(self):
            reply = self._reader.next_reply()
            if isinstance(reply, NeedMore):
                return
            receiver.read_from_master()
            self._unread -= _size(reply)
            if self._handshake:
                self._handshake -= 1
                if isinstance(reply, ErrorLine) and not reply.startswith((b"NOAUTH", b"ERR", b"WRONGPASS")):
                    receiver.link_failed(self)
            elif self._copy_offset >= 0 and isinstance(reply, bytes):
                receiver.copy_arrived(reply, self._copy_offset)
                self._copy_offset = -1
            elif isinstance(reply, list):
                words, raw = [bytes(word) for word in reply], pack(*reply)
                if alone and raw == data:
                    if len(self._known) >= MAX_KNOWN:
                        self._known.clear()
                    self._known[data] = words
                receiver.stream_arrived(words, raw)
            elif isinstance(reply, Status) and reply.startswith(b"FULLRESYNC "):
                _, history, offset = reply.split()
                self._copy_offset = int(offset)
                receiver.copy_begins(text(history))
            elif isinstance(reply, Status) and reply.startswith(b"CONTINUE"):
                receiver.continues(text(reply.partition(b" ")[2]))
            elif self._copy_offset < 0 and not receiver.link_up:
                receiver.refused(self)
            else:
                receiver.link_failed(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The master closed the connection or is unreachable."""
        self._receiver.link_failed(self)
