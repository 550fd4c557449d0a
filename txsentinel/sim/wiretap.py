"""
Taps on the connections of Sentinels: what they send and receive, independent of their own state.

A small reader of its own parses commands and replies, so the parser and the encoder under test cannot hide errors.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from txsentinel.sim.tcp import SimTransport
from txsentinel.sim.values import Failed, Word

HELLO: Final = re.compile(rb"__sentinel__:hello\r\n\$\d+\r\n([^\r\n]*)\r\n")

_STATUS, _ERROR, _INTEGER, _BULK = b"+-:$"

PING: Final = b"*1\r\n$4\r\nPING\r\n"
PONG: Final = b"+PONG\r\n"

MAX_KNOWN: Final = 64
"""Chunks of bytes per direction that are recognised without being parsed again."""


class Frames:
    """Parse a stream of RESP2."""

    def __init__(self) -> None:
        self._buffer = b""
        self._known: dict[bytes, list[Word]] = {}

    @property
    def idle(self) -> bool:
        """Whether no value is incomplete."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Word]:
        """Return all values that are complete now. The list may be reused: do not change it."""
        if self._buffer:
            return self._read(self._buffer + data)
        found = self._known.get(data)
        if found is None:
            found = self._read(data)
            if not self._buffer and len(self._known) < MAX_KNOWN and len(data) < 2_000:
                self._known[data] = found
        return found

    def _read(self, buffer: bytes) -> list[Word]:
        found: list[Word] = []
        at, end = 0, len(buffer)
        try:
            while at < end:
                value, at = _value(buffer, at)
                found.append(value)
        except IndexError:
            pass
        self._buffer = buffer[at:]
        return found


def _value(buffer: bytes, at: int) -> tuple[Word, int]:
    """
    Return the value that begins at ``at``, and its end.

    :raises IndexError: if it is incomplete.
    """
    eol = buffer.find(b"\r\n", at)
    if eol < 0:
        raise IndexError
    kind, after = buffer[at], eol + 2
    if kind == _BULK:
        length = int(buffer[at + 1 : eol])
        if length < 0:
            return None, after
        end = after + length
        if len(buffer) < end + 2:
            raise IndexError
        return buffer[after:end], end + 2
    if kind == _STATUS:
        return buffer[at + 1 : eol], after
    if kind == _ERROR:
        return Failed(buffer[at + 1 : eol]), after
    number = int(buffer[at + 1 : eol])
    if kind == _INTEGER:
        return number, after
    if number < 0:
        return None, after
    items: list[Word] = []
    for _ in range(number):
        item, after = _value(buffer, after)
        items.append(item)
    return items, after


class Request:
    """A command sent to a Sentinel, and when it arrived or (for the sender) left, in simulated seconds."""

    __slots__ = ("at", "name", "words")

    def __init__(self, words: list[bytes], at: float) -> None:
        self.words = words
        self.at = at
        self.name = words[1 if words[0].upper() == b"SENTINEL" and len(words) > 1 else 0].upper()
        """The command, or the subcommand of SENTINEL, in upper case."""


_PINGED: Final = Request([b"PING"], 0.0)
"""Shared by all plain PINGs, whose time is never used."""


class WireListener(Protocol):
    """Callbacks of a tap; ``who``, ``asker`` and ``voter`` are names of hosts."""

    def hello_sent(self, who: str, payload: bytes) -> None:
        """A hello is leaving, to a server or to a peer."""

    def ordered(self, who: str, ip: str, words: list[bytes]) -> None:
        """SLAVEOF or FAILOVER is leaving for the server at ``ip``."""

    def saw_master(self, who: str, ip: str) -> None:
        """The server at ``ip`` has reported role master."""

    def saw_replica(self, who: str, ip: str) -> None:
        """The server at ``ip`` has reported role slave."""

    def saw_pong(self, who: str, ip: str) -> None:
        """The server at ``ip`` has answered a PING."""

    def was_asked(self, voter: str, asker: str, request: Request) -> None:
        """A command has arrived."""

    def answered(self, voter: str, asker: str, request: Request, reply: Word) -> None:
        """The reply to a command is leaving."""

    def asked(self, asker: str, voter: str, request: Request) -> None:
        """A command is leaving for another Sentinel."""

    def was_answered(self, asker: str, voter: str, request: Request, reply: Word) -> None:
        """The reply to a command has arrived."""


class _HelloTap:
    """The end of a sender of which only the hellos are checked."""

    def __init__(self, listener: WireListener, end: SimTransport) -> None:
        self._listener = listener
        self._who = end.reactor.name
        self._ip = end.remote.host

    def written(self, data: bytes) -> None:
        if b"__sentinel__:hello" in data:
            for payload in HELLO.findall(data):
                self._listener.hello_sent(self._who, payload)

    def arriving(self, data: bytes) -> None:
        """Ignored: this end is not checked."""


class _ServerTap(_HelloTap):
    """A Sentinel's end of a connection to a server."""

    def written(self, data: bytes) -> None:
        if b"__sentinel__:hello" in data:
            for payload in HELLO.findall(data):
                self._listener.hello_sent(self._who, payload)
        if b"SLAVEOF" in data or b"FAILOVER" in data:
            discarded = False
            for words in Frames().feed(data):
                if words in ([b"CLIENT"], [b"EXEC"]):
                    # A transaction with an incomplete command is never executed.
                    discarded = words == [b"CLIENT"]
                elif isinstance(words, list) and words[0] in (b"SLAVEOF", b"FAILOVER") and not discarded:
                    self._listener.ordered(self._who, self._ip, [word for word in words if isinstance(word, bytes)])

    def arriving(self, data: bytes) -> None:
        if b"role:master" in data:
            self._listener.saw_master(self._who, self._ip)
        elif b"role:slave" in data:
            self._listener.saw_replica(self._who, self._ip)
        if PONG in data:
            self._listener.saw_pong(self._who, self._ip)


class _Conversation:
    """One end of a connection to a Sentinel's port: requests in one direction, replies in the other."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._requests, self._replies = Frames(), Frames()
        self._pending: deque[Request] = deque()
        self._subscribed = False

    def _take_requests(self, data: bytes) -> list[Request]:
        found: list[Request] = []
        if self._subscribed:
            return found
        if data == PING and self._requests.idle:
            self._pending.append(_PINGED)
            return found
        for words in self._requests.feed(data):
            if isinstance(words, list) and words:
                request = Request([word for word in words if isinstance(word, bytes)], self._now())
                # From here on some frames are not replies.
                self._subscribed = self._subscribed or request.name in (b"SUBSCRIBE", b"PSUBSCRIBE")
                self._pending.append(request)
                found.append(request)
        return found

    def _take_replies(self, data: bytes) -> list[tuple[Request, Word]]:
        pending = self._pending
        if self._subscribed:
            return []
        if data == PONG and pending and pending[0] is _PINGED and self._replies.idle:
            pending.popleft()
            return []
        return [(pending.popleft(), reply) for reply in self._replies.feed(data) if pending]


class _AskingTap(_Conversation):
    """The end that made the connection."""

    def __init__(self, listener: WireListener, asker: str, voter: str, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._listener, self._asker, self._voter = listener, asker, voter

    def written(self, data: bytes) -> None:
        for request in self._take_requests(data):
            if request.name == b"PUBLISH":
                self._listener.hello_sent(self._asker, request.words[-1])
            elif request.name == b"IS-MASTER-DOWN-BY-ADDR":
                self._listener.asked(self._asker, self._voter, request)

    def arriving(self, data: bytes) -> None:
        for request, reply in self._take_replies(data):
            if request.name == b"IS-MASTER-DOWN-BY-ADDR":
                self._listener.was_answered(self._asker, self._voter, request, reply)


class _AnsweringTap(_Conversation):
    """The end of the Sentinel that accepted the connection."""

    def __init__(self, listener: WireListener, asker: str, voter: str, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._listener, self._asker, self._voter = listener, asker, voter

    def written(self, data: bytes) -> None:
        for request, reply in self._take_replies(data):
            if request.name not in (b"PING", b"PUBLISH"):
                self._listener.answered(self._voter, self._asker, request, reply)

    def arriving(self, data: bytes) -> None:
        for request in self._take_requests(data):
            if request.name not in (b"PING", b"PUBLISH"):
                self._listener.was_asked(self._voter, self._asker, request)


class WireTapInstaller:
    """
    Tap every connection of the named Sentinels and call ``listener``.

    :param senders: other hosts, of which only the hellos are checked.
    :param port: the port on which Sentinels listen.
    """

    def __init__(
        self, listener: WireListener, names: set[str], senders: set[str], port: int, now: Callable[[], float]
    ) -> None:
        self._listener = listener
        self._names = names
        self._senders = senders
        self._port = port
        self._now = now

    def joined(self, client: SimTransport, server: SimTransport) -> None:
        """A connection was established."""
        asker, voter = client.reactor.name, server.reactor.name
        if server.local.port == self._port:
            if asker in self._senders:
                client.tap = _HelloTap(self._listener, client)
            if asker in self._names:
                client.tap = _AskingTap(self._listener, asker, voter, self._now)
            if voter in self._names:
                server.tap = _AnsweringTap(self._listener, asker, voter, self._now)
        elif asker in self._names:
            client.tap = _ServerTap(self._listener, client)
        elif asker in self._senders:
            client.tap = _HelloTap(self._listener, client)
