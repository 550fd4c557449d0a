"""
Keys left after a master without persistence was restarted, for instance by a supervisor, before it is S_DOWN.

Three Sentinels of a kind monitor a master and its replicas, two by default, which each hold the same keys. In each
round the master is killed at a random moment and started again, empty, a given time after that. A round counts as kept
if all keys are on all servers in the end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.demo import Connection, DeadlineExpired, Fleet, Harness, RedisProcess, ReplyError, wait_for

KEYS: Final = 1_000
STABLE_SECONDS: Final = 1.5
"""How long an installation runs before each round, at least; connections are then older than a PING period."""

CONVERGED_SECONDS: Final = 40.0
"""Deadline for all servers to be synchronized with one master after a restart."""

SETTING: Final = "#: txsentinel empty-restart-failover mymaster on"
"""A comment for C Sentinels."""

WRITE: Final = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'key' .. i, i) end"


@dataclass
class Results:
    """The outcome of all rounds of one kind with one delay."""

    keys: list[int] = field(default_factory=list)
    """Minimum number of keys on a server, at the end of each round."""

    failovers: int = 0
    failed: list[str] = field(default_factory=list)
    """Rounds that could not be evaluated, with the reason."""

    @property
    def kept(self) -> int:
        """Number of rounds in which no key was lost."""
        return sum(keys == KEYS for keys in self.keys)


class Contender:
    """Sentinels of one kind over servers of one kind; a context manager."""

    def __init__(
        self, kind: str, server_kind: str, down_after: int, replicas: int = 2, extra: Sequence[str] = ()
    ) -> None:
        """
        Describe the installation without starting it.

        :param down_after: milliseconds.
        :param extra: further lines for the configuration of the Sentinels.
        """
        self.kind = kind
        self._rng = random.Random()
        self._harness = Harness()
        self.fleet = Fleet(
            self._harness, [kind] * 3, server_kind, replicas=replicas, down_after=down_after, extra=extra
        )

    def __enter__(self) -> Contender:
        """Start the servers at unrelated moments, as their replication timers run from then on, and the Sentinels."""
        self._harness.__enter__()
        for server in self.fleet.servers.values():
            time.sleep(self._rng.random())
            server.start()
        self.fleet.start_sentinels()
        return self

    def __exit__(self, *arguments: object) -> None:
        self._harness.close()

    def round(self, delay: float, results: Results) -> None:
        """
        Kill the master and start it again, empty, ``delay`` seconds later.

        A delay that is shorter than a start takes is exceeded by a few milliseconds.
        """
        try:
            master = self._prepared()
            time.sleep(STABLE_SECONDS + self._rng.random())
            killed_at = time.monotonic()
            master.kill()
            for path in master.directory.glob("*.rdb"):
                path.unlink()  # A replica stores the full copies that it receives, and would load the last one.
            time.sleep(max(0.0, killed_at + delay - time.monotonic()))
            master.start(keep_config=True, ready=False)
            wait_for(self._converged, CONVERGED_SECONDS, "all servers to be synchronized with one master")
            results.keys.append(min(_keys(server) for server in self.fleet.servers.values()))
            results.failovers += self.fleet.master() is not master
        except (DeadlineExpired, ReplyError, OSError) as problem:
            results.failed.append(str(problem))

    def _prepared(self) -> RedisProcess:
        master = self.fleet.master()
        with Connection(master.port) as connection:
            connection.call("FLUSHALL")
            connection.call("EVAL", WRITE, 0, KEYS)
        wait_for(
            lambda: all(_keys(server) == KEYS for server in self.fleet.servers.values()),
            CONVERGED_SECONDS,
            "all copies",
        )
        return master

    def _converged(self) -> bool:
        """Whether all Sentinels name one master, all other servers follow it, and none of them has only begun to."""
        master = self.fleet.master()
        others = [server for server in self.fleet.servers.values() if server is not master]
        if master.replication()["role"] != "master":
            return False
        return all(
            (fields := server.replication()).get("master_port") == str(master.port)
            and fields.get("master_link_status") == "up"
            for server in others
        )


def _keys(server: RedisProcess) -> int:
    reply = server.call("DBSIZE")
    if not isinstance(reply, int):
        raise ReplyError(f"{server.name} answered {reply!r}")
    return reply


def measure(
    kinds: Sequence[str],
    server_kind: str,
    delays: Sequence[int],
    rounds: int,
    down_after: int,
    replicas: int,
    report_progress: Callable[[str], None],
) -> dict[int, dict[str, Results]]:
    """
    Run all rounds, the kinds of Sentinels in turns.

    :param delays: from the kill to the start, in milliseconds, as ``down_after``.
    :returns: the results by delay and kind.
    """
    results: dict[int, dict[str, Results]] = {delay: {kind: Results() for kind in kinds} for delay in delays}
    for kind in kinds:
        with Contender(kind, server_kind, down_after, replicas, (SETTING,)) as contender:
            for delay in delays:
                found = results[delay][kind]
                for _ in range(rounds):
                    contender.round(delay / 1000, found)
                report_progress(f"{server_kind}, restart after {delay} ms, {kind}: {found.kept} of {rounds} kept")
    return results


def table(server: str, results: dict[int, dict[str, Results]]) -> str:
    """Format the results with one kind of server."""
    lines = [f"{server}: rounds in which all {KEYS} keys were kept, after an empty restart of the master", ""]
    for delay, kinds in results.items():
        for kind, found in kinds.items():
            total = len(found.keys) + len(found.failed)
            line = f"  restart after {delay:5} ms  {kind:12} {found.kept:3} of {total:3}"
            lines.append(f"{line}, {found.failovers} failovers")
            lines += [f"    not evaluated: {reason}" for reason in found.failed]
    return "\n".join(lines)
