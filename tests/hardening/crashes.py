"""
kill -9 at any time during changes: nothing that was acknowledged is lost.

A client changes quorums and adds and removes masters, one change after the other, and records each reply. After the
kill the Sentinel starts again from its file and is queried. Of the last change, which was not answered, either
result is right.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from tests.interop.hostile import FakeServer
from tests.servers import Connection, Harness, ReplyError, SentinelProcess, pairs, wait_for
from txsentinel.demo.blocking import MAX_WAIT_SECONDS

MASTERS = 4
"""Number of masters whose quorum is changed, and of those that are added and removed."""


@dataclass
class CrashFigures:
    """The result."""

    kills: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    leftovers: int = 0
    seconds: float = 0.0


class Changes:
    """
    Makes changes until the connection breaks.

    ``known`` has, by master, what was acknowledged last: its quorum, or ``None`` if it was removed. ``open`` is the
    change that was not answered.
    """

    def __init__(self, rng: random.Random, known: dict[str, int | None], port: int) -> None:
        self._rng = rng
        self._port = port
        self.known = known
        self.open: tuple[str, int | None] | None = None
        self.acknowledged = 0

    def run(self, sentinel: SentinelProcess) -> None:
        """Make one change after the other."""
        try:
            connection = Connection(sentinel.port)
            while True:
                self._change(connection)
        except (OSError, EOFError, ReplyError):
            return

    def _change(self, connection: Connection) -> None:
        rng = self._rng
        name = rng.choice(sorted(self.known))
        present = self.known[name]
        quorum = rng.randrange(1, 1_000_000)
        if present is None:
            self.open = (name, quorum)
            connection.call("SENTINEL", "MONITOR", name, "127.0.0.1", self._port, quorum)
        elif name.startswith("coming") and rng.random() < 0.3:
            self.open = (name, None)
            connection.call("SENTINEL", "REMOVE", name)
        else:
            self.open = (name, quorum)
            connection.call("SENTINEL", "SET", name, "quorum", quorum)
        changed, value = self.open
        self.known[changed] = value
        self.acknowledged += 1
        self.open = None


def found(sentinel: SentinelProcess) -> dict[str, int]:
    """Return the quorum by name of the monitored masters."""
    reply = sentinel.call("SENTINEL", "MASTERS")
    assert isinstance(reply, list)
    return {fields["name"]: int(fields["quorum"]) for fields in map(pairs, reply)}


def run(kind: str, kills: int, seed: int) -> CrashFigures:
    """Kill a Sentinel ``kills`` times and compare its masters afterwards with the acknowledged ones."""
    rng = random.Random(seed)
    figures = CrashFigures()
    with Harness() as harness:
        healthy = FakeServer()
        known: dict[str, int | None] = {f"fixed{number}": 1 for number in range(MASTERS)}
        sentinel = harness.sentinel(kind, monitor=[(name, "127.0.0.1", healthy.port, 1) for name in known])
        known.update((f"coming{number}", None) for number in range(MASTERS))
        sentinel.start()
        started_at = time.monotonic()
        while figures.kills < kills:
            changes = Changes(rng, known, healthy.port)
            thread = threading.Thread(target=changes.run, args=(sentinel,), daemon=True)
            thread.start()
            if not figures.kills:
                wait_for(lambda: changes.acknowledged, MAX_WAIT_SECONDS, "a change")  # noqa: B023
            time.sleep(rng.uniform(0.01, 0.4))
            sentinel.kill()
            figures.kills += 1
            thread.join(MAX_WAIT_SECONDS)
            assert not thread.is_alive(), "the client did not notice"
            figures.acknowledged += changes.acknowledged
            sentinel.start(keep_config=True)
            masters = found(sentinel)
            for name, value in sorted(known.items()):
                allowed = {value}
                if changes.open is not None and changes.open[0] == name:
                    allowed.add(changes.open[1])
                if masters.get(name) not in allowed:
                    figures.lost.append(f"{name} should be {allowed}, is {masters.get(name)}")
                known[name] = masters.get(name)
        figures.seconds = time.monotonic() - started_at
        figures.leftovers = len(list(sentinel.directory.glob("sentinel.conf.*")))
        healthy.close()
    return figures
