"""
Listening in on Sentinels: what they say and hear on the wire, whatever their own code believes of it.

Commands and replies are taken apart here by a small reader of our own, so that neither the parser nor
the encoder that are on trial can hide anything.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from txsentinel.sim.tcp import SimTransport

Word: TypeAlias = "bytes | int | Failed | list[Word] | None"

HELLO: Final = re.compile(rb"__sentinel__:hello\r\n\$\d+\r\n([^\r\n]*)\r\n")

FAMILIAR: Final = 64
"""Chunks of bytes per direction that are recognised without being read again."""


class Failed(bytes):
    """An error reply."""


class Frames:
    """Takes a stream of RESP2 apart."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._familiar: dict[bytes, list[Word]] = {}

    def feed(self, data: bytes) -> list[Word]:
        """All values that are complete now."""
        fresh = not self._buffer
        if fresh and data in self._familiar:
            return self._familiar[data]
        self._buffer += data
        found: list[Word] = []
        while self._buffer:
            self._at = 0
            try:
                value = self._value()
            except IndexError:
                break
            self._buffer = self._buffer[self._at :]
            found.append(value)
        if fresh and not self._buffer and len(self._familiar) < FAMILIAR and len(data) < 2_000:
            self._familiar[data] = found
        return found

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            raise IndexError
        line, self._at = self._buffer[self._at : end], end + 2
        return line

    def _value(self) -> Word:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Failed(rest)
        if kind == b":":
            return int(rest)
        length = int(rest)
        if length < 0:
            return None
        if kind == b"*":
            return [self._value() for _ in range(length)]
        end = self._at + length
        if len(self._buffer) < end + 2:
            raise IndexError
        value, self._at = self._buffer[self._at : end], end + 2
        return value


@dataclass(slots=True)
class Request:
    """A command that a Sentinel was sent, and when it arrived or (for who sent it) left, in world seconds."""

    words: list[bytes]
    at: float

    @property
    def name(self) -> bytes:
        """The command, or the subcommand of SENTINEL, in upper case."""
        return self.words[1 if self.words[0].upper() == b"SENTINEL" and len(self.words) > 1 else 0].upper()


class Ear(Protocol):
    """Whoever is told of what is overheard; ``who``, ``asker`` and ``voter`` are names of hosts."""

    def said_hello(self, who: str, payload: bytes) -> None:
        """A hello is leaving, to a server or to a peer."""

    def ordered(self, who: str, ip: str, words: list[bytes]) -> None:
        """SLAVEOF or FAILOVER is leaving for the server at ``ip``."""

    def saw_master(self, who: str, ip: str) -> None:
        """The server at ``ip`` has told that it is a master."""

    def was_asked(self, voter: str, asker: str, request: Request) -> None:
        """A command has arrived."""

    def answered(self, voter: str, asker: str, request: Request, reply: Word) -> None:
        """The reply to a command is leaving."""

    def asked(self, asker: str, voter: str, request: Request) -> None:
        """A command is leaving for another Sentinel."""

    def was_answered(self, asker: str, voter: str, request: Request, reply: Word) -> None:
        """The reply to a command has arrived."""


class _HelloTap:
    """The end of somebody of whom only the hellos matter."""

    def __init__(self, ear: Ear, end: SimTransport) -> None:
        self._ear = ear
        self._who = end.reactor.name
        self._ip = end.remote.host

    def written(self, data: bytes) -> None:
        if b"__sentinel__:hello" in data:
            for payload in HELLO.findall(data):
                self._ear.said_hello(self._who, payload)

    def arriving(self, data: bytes) -> None:
        """It believes what it likes."""


class _ServerTap(_HelloTap):
    """A Sentinel's end of a connection to a server."""

    def written(self, data: bytes) -> None:
        super().written(data)
        if b"SLAVEOF" in data or b"FAILOVER" in data:
            for words in Frames().feed(data):
                if isinstance(words, list) and words[0] in (b"SLAVEOF", b"FAILOVER"):
                    self._ear.ordered(self._who, self._ip, [word for word in words if isinstance(word, bytes)])

    def arriving(self, data: bytes) -> None:
        if b"role:master" in data:
            self._ear.saw_master(self._who, self._ip)


class _Conversation:
    """One end of a connection to a Sentinel's port: requests in one direction, replies in the other."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._requests, self._replies = Frames(), Frames()
        self._pending: deque[Request] = deque()
        self._deaf = False

    def _take_requests(self, data: bytes) -> list[Request]:
        if self._deaf:
            return []
        found = []
        for words in self._requests.feed(data):
            if isinstance(words, list) and words:
                request = Request([word for word in words if isinstance(word, bytes)], self._now())
                # From here on not every frame is a reply.
                self._deaf = self._deaf or request.name in (b"SUBSCRIBE", b"PSUBSCRIBE")
                self._pending.append(request)
                found.append(request)
        return found

    def _take_replies(self, data: bytes) -> list[tuple[Request, Word]]:
        if self._deaf:
            return []
        return [(self._pending.popleft(), reply) for reply in self._replies.feed(data) if self._pending]


class _AskingTap(_Conversation):
    """The end of whoever connected."""

    def __init__(self, ear: Ear, asker: str, voter: str, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._ear, self._asker, self._voter = ear, asker, voter

    def written(self, data: bytes) -> None:
        for request in self._take_requests(data):
            if request.name == b"PUBLISH":
                self._ear.said_hello(self._asker, request.words[-1])
            elif request.name == b"IS-MASTER-DOWN-BY-ADDR":
                self._ear.asked(self._asker, self._voter, request)

    def arriving(self, data: bytes) -> None:
        for request, reply in self._take_replies(data):
            if request.name == b"IS-MASTER-DOWN-BY-ADDR":
                self._ear.was_answered(self._asker, self._voter, request, reply)


class _AnsweringTap(_Conversation):
    """The end of the Sentinel that was connected to."""

    def __init__(self, ear: Ear, asker: str, voter: str, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._ear, self._asker, self._voter = ear, asker, voter

    def written(self, data: bytes) -> None:
        for request, reply in self._take_replies(data):
            if request.name not in (b"PING", b"PUBLISH"):
                self._ear.answered(self._voter, self._asker, request, reply)

    def arriving(self, data: bytes) -> None:
        for request in self._take_requests(data):
            if request.name not in (b"PING", b"PUBLISH"):
                self._ear.was_asked(self._voter, self._asker, request)


class Eavesdropper:
    """
    Taps every connection of the Sentinels named, and tells ``ear``.

    :param talkers: others, of whom only the hellos matter.
    :param port: where Sentinels listen.
    """

    def __init__(self, ear: Ear, names: set[str], talkers: set[str], port: int, now: Callable[[], float]) -> None:
        self._ear = ear
        self._names = names
        self._talkers = talkers
        self._port = port
        self._now = now

    def joined(self, client: SimTransport, server: SimTransport) -> None:
        """A connection comes to be."""
        asker, voter = client.reactor.name, server.reactor.name
        if server.local.port == self._port:
            if asker in self._talkers:
                client.tap = _HelloTap(self._ear, client)
            if asker in self._names:
                client.tap = _AskingTap(self._ear, asker, voter, self._now)
            if voter in self._names:
                server.tap = _AnsweringTap(self._ear, asker, voter, self._now)
        elif asker in self._names:
            client.tap = _ServerTap(self._ear, client)
        elif asker in self._talkers:
            client.tap = _HelloTap(self._ear, client)
