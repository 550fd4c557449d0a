"""Requests of maximum length: how long another client has to wait meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.interop.hostile import Attacker, ClientMonitor, FakeServer
from tests.resp import pack
from tests.servers import Harness


def repeated(count: int, *words: bytes) -> list[bytes]:
    """Return the same arguments repeated, ``count`` in all."""
    return list(words) * (count // len(words))


def long_requests(count: int) -> Mapping[str, list[bytes]]:
    """Return the requests by name, of ``count`` arguments each."""
    numbers = [b"%d" % number for number in range(1, count + 1)]
    prefixes = [word for number in numbers for word in (b"PREFIX", number)][:count]
    return {
        "UNSUBSCRIBE a a ...": [b"UNSUBSCRIBE", *repeated(count, b"a")],
        "UNSUBSCRIBE 1 2 3 ...": [b"UNSUBSCRIBE", *numbers],
        "SUBSCRIBE a a ...": [b"SUBSCRIBE", *repeated(count, b"a")],
        "CLIENT LIST ID 1 2 3 ...": [b"CLIENT", b"LIST", b"ID", *numbers],
        "CLIENT LIST ID 1 ID 1 ...": [b"CLIENT", b"LIST", *repeated(count, b"ID", b"1")],
        "HELLO 3 SETNAME a SETNAME a ...": [b"HELLO", b"3", *repeated(count, b"SETNAME", b"a")],
        "COMMAND INFO ping ping ...": [b"COMMAND", b"INFO", *repeated(count, b"ping")],
        "COMMAND DOCS ping ping ...": [b"COMMAND", b"DOCS", *repeated(count, b"ping")],
        "SENTINEL CONFIG GET a a ...": [b"SENTINEL", b"CONFIG", b"GET", *repeated(count, b"a")],
        "SENTINEL SET good quorum 1 ...": [b"SENTINEL", b"SET", b"good", *repeated(count, b"quorum", b"1")],
        "ACL SETUSER u +ping +ping ...": [b"ACL", b"SETUSER", b"u", *repeated(count, b"+ping")],
        "CLIENT TRACKING on BCAST PREFIX ...": [b"CLIENT", b"TRACKING", b"on", b"BCAST", *prefixes],
        "INFO a a ...": [b"INFO", *repeated(count, b"a")],
        "SENTINEL MASTER <8 MB>": [b"SENTINEL", b"MASTER", b"\xff" * (8 << 20)],
    }


END: Final = b"$7\r\nthe-end\r\n"


@dataclass
class StallFigures:
    """The result of one request."""

    name: str
    answered: bool
    seconds: float
    slowest_ping: float
    grown_megabytes: float
    tilt: bool


def run(kind: str, count: int, names: frozenset[str] = frozenset(), timeout: float = 120.0) -> list[StallFigures]:
    """
    Send each of the requests to a Sentinel of its own, while another client pings it.

    :param names: those to send; all if empty.
    :param timeout: seconds after which a request counts as unanswered.
    """
    figures = []
    for name, words in long_requests(count).items():
        if names and name not in names:
            continue
        request = pack(*words) + pack("PING", "the-end")
        with Harness() as harness:
            healthy = FakeServer()
            sentinel = harness.sentinel(kind, monitor=[("good", "127.0.0.1", healthy.port, 1)])
            sentinel.start()
            monitor = ClientMonitor(sentinel)
            started_at = time.monotonic()
            with monitor, Attacker(sentinel.port, timeout) as client:
                client.send(request)
                answered = END in read_all(client, started_at + timeout)
                seconds = time.monotonic() - started_at
                time.sleep(0.2)
            slowest = timeout if monitor.failure is not None else monitor.slowest
            tilt = "+tilt" in sentinel.log_text()
            figures.append(StallFigures(name, answered, seconds, slowest, monitor.grown / (1 << 20), tilt))
            healthy.close()
    return figures


def read_all(client: Attacker, until: float) -> bytes:
    """Return the last bytes before the end of the reply, or of the time."""
    last = b""
    while not last.endswith((END, b"the-end\r\n")) and time.monotonic() < until:
        try:
            data = client.socket.recv(1 << 18)
        except OSError:
            break
        if not data:
            break
        last = (last + data)[-len(END) :]
    return last
