"""Two servers and a Sentinel in memory, for switchovers without sockets and clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from tests.remote.samples import MASTER, NAME, SENTINELS, fleet, identifier, master_report, replica, sentinel
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.reading import Scope
from txsentinel.remote.reports import SentinelReport
from txsentinel.remote.switchover import SwitchoverClock
from txsentinel.remote.switchover_checks import Plan
from txsentinel.wire.resp import data
from txsentinel.wire.values import ErrorLine, Reply, Status

OLD = Endpoint(MASTER, 6379)
NEW = Endpoint("10.0.0.1", 6379)
REPLID = "8" * 40


class FakeServers:
    """
    A master, its replica, and Sentinels that promote the replica when they are ordered to.

    Each read of the replica lets it receive ``receives`` bytes, and takes a millisecond.
    """

    def __init__(self, lag: int = 0, receives: int = 100) -> None:
        self.now = 1_800_000_000.0
        self.offset = 1_000_000
        self.replica_offset = self.offset - lag
        self.receives = receives
        self.promotes = True
        self.promoted = False
        self.fork = 0
        self.priority = 100
        self.shown_priority: int | None = None
        """What the Sentinels show; ``None`` for the present one."""

        self.paused = False
        self.settings = {"min-replicas-to-write": "1", "min-replicas-max-lag": "0"}
        self.order: Reply = Status(b"OK")
        self.down: set[Endpoint] = set()
        self.leaks = 0
        """Bytes that the old master accepts although writes are held."""

        self.log: list[str] = []
        self.on_command: Callable[[str], None] = lambda command: None
        self.clock = SwitchoverClock(lambda: self.now, lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def connect(self, endpoint: Endpoint, settings: ConnectionSettings) -> RemoteConnection:
        """Connect to one of them."""
        if endpoint in self.down:
            raise ConnectionFailed("connection refused")
        return cast(RemoteConnection, FakeLink(self, endpoint))

    def read(self, endpoint: Endpoint, settings: ConnectionSettings, scope: Scope) -> SentinelReport:
        """Return what a Sentinel reports."""
        shown = self.priority if self.shown_priority is None else self.shown_priority
        replicas = [replica(NEW.host, slave_priority=str(shown)), replica("10.0.0.3")]
        return sentinel(endpoint.host, master_report(endpoint.host, None, replicas))

    def plan(self) -> Plan:
        """Return the plan to promote the replica."""
        reports = [self.read(Endpoint(host, 26379), ConnectionSettings(), Scope()) for host in SENTINELS]
        agreement = agreement_on(fleet(*reports), NAME)
        return Plan(agreement, OLD, NEW, reports[0], "redis 7.0.15", 0, self.priority, "ok", ())

    def info(self, endpoint: Endpoint) -> bytes:
        """Return the INFO of a server."""
        self.now += 0.001
        if endpoint == OLD:
            fields = {"role": "master", "master_replid": REPLID, "master_repl_offset": self.offset}
        elif self.promoted:
            fields = {
                "role": "master",
                "master_replid": "9" * 40,
                "master_replid2": REPLID,
                "second_repl_offset": self.fork + 1,
                "master_repl_offset": self.fork,
                "slave0": "ip=10.0.0.3,port=6379,state=online,offset=1,lag=0",
                "slave1": "ip=10.0.0.2,port=6379,state=online,offset=1,lag=0",
                "sync_partial_ok": 2,
            }
        else:
            self.replica_offset = min(self.replica_offset + self.receives, self.offset)
            fields = {
                "role": "slave",
                "master_link_status": "up",
                "master_replid": REPLID,
                "slave_repl_offset": self.replica_offset,
            }
        return data("".join(f"{name}:{value}\r\n" for name, value in fields.items()))

    def execute(self, endpoint: Endpoint, command: str) -> Reply:
        """Execute one command."""
        self.on_command(command)
        if endpoint in self.down:
            raise ConnectionFailed("the connection was closed")
        if not command.startswith("INFO") and "GET-MASTER" not in command:
            self.log.append(f"{endpoint.host} {command}")
        if command.startswith("INFO"):
            return self.info(endpoint)
        if command.startswith("SENTINEL GET-MASTER"):
            self.now += 0.001
            return [data(NEW.host if self.promoted else OLD.host), b"6379"]
        if command.startswith("SENTINEL FAILOVER"):
            if self.promotes and not isinstance(self.order, ErrorLine):
                self.promoted, self.fork = True, self.replica_offset
                self.offset += self.leaks
            return self.order
        if command.startswith("CLIENT KILL"):
            return 3
        if command.startswith("CONFIG SET replica-priority"):
            self.priority = int(command.rpartition(" ")[2])
        words = command.split()
        if words[:2] == ["CONFIG", "GET"]:
            found = self.settings | {"replica-priority": str(self.priority)}
            return [data(words[2]), data(found[words[2]])]
        if words[:2] == ["CONFIG", "SET"] and words[2] in self.settings:
            self.settings[words[2]] = words[3]
        if command.startswith("CLIENT PAUSE"):
            self.paused = True
        if command == "CLIENT UNPAUSE":
            self.paused = False
        return Status(b"OK")


class FakeLink:
    """A connection to one of them."""

    def __init__(self, servers: FakeServers, endpoint: Endpoint) -> None:
        self.servers = servers
        self.endpoint = endpoint
        assert identifier(endpoint.host)

    def __enter__(self) -> FakeLink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""
        self.closed = True

    def call(self, *words: str | int) -> Reply:
        """Execute one command."""
        reply = self.servers.execute(self.endpoint, " ".join(map(str, words)))
        if isinstance(reply, ErrorLine):
            raise ErrorAnswer(reply.decode())
        return reply

    def pipeline(self, commands: Sequence[Sequence[str | int]]) -> list[Reply]:
        """Execute a transaction."""
        assert commands[0] == ("MULTI",) and commands[-1] == ("EXEC",)
        replies = [self.servers.execute(self.endpoint, " ".join(map(str, words))) for words in commands[1:-1]]
        return [Status(b"OK"), *(Status(b"QUEUED") for _ in replies), replies]
