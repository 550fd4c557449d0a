"""Clients that connect, send commands and disconnect, in order or not: memory and descriptors stay the same."""

from __future__ import annotations

import contextlib
import os
import random
import time
from dataclasses import dataclass

from tests.interop.hostile import Attacker, FakeServer, resident_memory
from tests.resp import pack
from tests.servers import DeadlineExpired, Harness, SentinelProcess, wait_for
from txsentinel.demo.blocking import MAX_WAIT_SECONDS

CONCURRENT = 50
"""Number of connections that are open at the same time."""

NAMES = 300
"""Number of different names, users, hosts and so on. The memory of them is bounded, but it takes long to reach that."""

WARM_UP = 0.3
"""Part of the time after which memory is measured first: by then all of them were used."""


@dataclass
class ChurnFigures:
    """The result."""

    seconds: float = 0.0
    connections: int = 0
    megabytes_first: float = 0.0
    megabytes_last: float = 0.0
    descriptors_first: int = 0
    descriptors_last: int = 0

    @property
    def grown_megabytes(self) -> float:
        """Return the growth from the first measurement to the last."""
        return self.megabytes_last - self.megabytes_first


def descriptors(sentinel: SentinelProcess) -> int:
    """Return the number of open files of the process."""
    return len(os.listdir(f"/proc/{sentinel.pid}/fd"))


def run_client(rng: random.Random, port: int) -> None:
    """Connect one client after the other; all send commands, each disconnects in its own way."""
    clients = [Attacker(port, 10.0) for _ in range(CONCURRENT)]
    for client in clients:
        number = rng.randrange(NAMES)
        client.send(
            rng.choice(
                (
                    pack("PING"),
                    pack("SENTINEL", "MASTERS") + pack("INFO"),
                    pack("SUBSCRIBE", "+switch-master", f"made-up-{number}"),
                    pack("PSUBSCRIBE", f"+*{number}", "*"),
                    pack("HELLO", "3", "SETNAME", f"client-{number}"),
                    pack("CLIENT", "SETNAME", "n" * rng.randrange(1000)) + pack("AUTH", f"user-{number}", "x"),
                    pack("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", f"host-{number}", "1", "0", "*"),
                    pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", f"name-{number}"),
                    pack("CLIENT", "TRACKING", "on", "BCAST", "PREFIX", f"p{number}"),
                    pack("PUBLISH", "__sentinel__:hello", f"hello-{number}"),
                    b"*3\r\n$4\r\nPING\r\n$100000\r\n" + b"x" * rng.randrange(10_000),
                    rng.randbytes(50),
                )
            )
        )
    for client in clients:
        if rng.random() < 0.7:
            client.receive(b"\r\n", 0.05)
        with contextlib.suppress(OSError):
            client.socket.close()


def run(kind: str, seconds: float, seed: int, connections: int = 2 * CONCURRENT) -> ChurnFigures:
    """Run for so many seconds, and at least with so many connections."""
    rng = random.Random(seed)
    figures = ChurnFigures()
    with Harness() as harness:
        healthy = FakeServer()
        sentinel = harness.sentinel(kind, monitor=[("good", "127.0.0.1", healthy.port, 1)])
        sentinel.start()
        started_at = time.monotonic()
        while time.monotonic() - started_at < seconds or figures.connections < connections:
            run_client(rng, sentinel.port)
            figures.connections += CONCURRENT
            if not figures.megabytes_first and time.monotonic() - started_at > WARM_UP * seconds:
                figures.megabytes_first = resident_memory(sentinel.pid) / (1 << 20)
                figures.descriptors_first = descriptors(sentinel)
        figures.seconds = time.monotonic() - started_at
        # The last ones disconnect.
        with contextlib.suppress(DeadlineExpired):
            wait_for(
                lambda: descriptors(sentinel) <= figures.descriptors_first, MAX_WAIT_SECONDS, "the ends of connections"
            )
        figures.megabytes_last = resident_memory(sentinel.pid) / (1 << 20)
        figures.descriptors_last = descriptors(sentinel)
        healthy.close()
    return figures
