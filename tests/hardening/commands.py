"""
Random commands from several connections: each is answered or its connection closed, and the Sentinel keeps serving.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tests.hardening.generator import RequestGenerator
from tests.interop.hostile import Attacker, FakeServer, resident_memory
from tests.resp import pack
from tests.servers import Harness, SentinelProcess

END = b"$11\r\nstill-there\r\n"
"""The PING with this argument ends a batch: once it is echoed, everything before it was answered."""

BATCH = 20
"""Number of requests that are sent together."""

CONTROL = "user control on >control allchannels +@all"


@dataclass
class CommandFigures:
    """The result."""

    requests: int = 0
    answered_batches: int = 0
    closed_connections: int = 0
    seconds: float = 0.0
    tracebacks: int = 0
    grown_megabytes: float = 0.0


def repair(sentinel: SentinelProcess) -> None:
    """
    Undo the changes of random commands, as a user that they do not know.

    The last of them may still be executed and close this connection as well; that may happen a few times.

    :raises AssertionError: if it is not served.
    """
    answers = []
    for _ in range(5):
        answers.append(restore_settings(sentinel.port))
        if answers[-1].endswith(END):
            return
    raise AssertionError(f"it serves its operator no more: {answers}\n{sentinel.log_text()[-3000:]}")


def restore_settings(port: int) -> bytes:
    """Return the replies to the operator."""
    with Attacker(port, 30.0) as control:
        control.send(
            pack("AUTH", "control", "control")
            + pack("ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all")
            + pack("CLIENT", "UNPAUSE")
            + pack("SENTINEL", "MONITOR", "good", "127.0.0.1", "1", "1")
            + pack("PING", "still-there")
        )
        return control.receive(END, 30.0)


def run(kind: str, count: int, seed: int) -> CommandFigures:
    """
    Send ``count`` random requests to a Sentinel.

    :raises AssertionError: if it ends, or does not answer a valid request any more.
    """
    figures = CommandFigures()
    requests = RequestGenerator(random.Random(seed))
    with Harness() as harness:
        healthy = FakeServer()
        sentinel = harness.sentinel(kind, monitor=[("good", "127.0.0.1", healthy.port, 1)], extra=[CONTROL])
        sentinel.start()
        began, before = time.monotonic(), resident_memory(sentinel.pid)
        while figures.requests < count:
            with Attacker(sentinel.port, 30.0) as client:
                is_running = True
                while is_running and figures.requests < count:
                    is_running = False
                    batch = [requests.next() for _ in range(BATCH)]
                    complete = all(is_request for _, is_request in batch)
                    figures.requests += BATCH
                    client.send(b"".join(data for data, _ in batch) + pack("PING", "still-there"))
                    if complete and client.receive(END, 3.0).endswith(END):
                        figures.answered_batches += 1
                        is_running = True
            figures.closed_connections += 1
            if not sentinel.running:
                raise AssertionError(f"it ended with {sentinel.exit_status}:\n{sentinel.log_text()[-5000:]}")
            repair(sentinel)
        figures.seconds = time.monotonic() - began
        figures.grown_megabytes = (resident_memory(sentinel.pid) - before) / (1 << 20)
        figures.tracebacks = sentinel.log_text().count("Traceback")
        healthy.close()
    return figures
