"""
An environment for each compared Sentinel: a master, a replica and a peer that no other Sentinel monitors.

With servers of their own the Sentinels cannot reach each other, so commands to one have no effect on others, and
all of them may fail over at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

from tests.resp import read_commands
from tests.servers import Harness, RedisProcess, SentinelProcess, free_port, pairs, wait_for

MY_ID = "5e" * 20
PEER_ID = "9a" * 20
GONE_QUORUM = 5
"""More than there are Sentinels: the master that is gone stays subjectively down, without a failover."""


class IdlePeer:
    """
    A fake Sentinel, shared by all environments: alive, without opinions, and silent otherwise.

    The events of a real one would arrive in each environment at another time.

    :param ids: its replies to SENTINEL MYID, one after the other on each connection; the last one repeatedly.
    """

    def __init__(self, *ids: str) -> None:
        self._ids = ids
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more; connections end with their peers."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rwb") as stream:
            ids = list(self._ids)
            for command in read_commands(stream):
                words = [word.upper() for word in command]
                if words == [b"SENTINEL", b"MYID"]:
                    stream.write(f"$40\r\n{ids.pop(0) if len(ids) > 1 else ids[0]}\r\n".encode())
                else:
                    stream.write(self._answer(words))
                stream.flush()

    @staticmethod
    def _answer(words: Sequence[bytes]) -> bytes:
        if words[0] == b"PING":
            return b"+PONG\r\n"
        if words[0] == b"PUBLISH":
            return b":1\r\n"
        if words[0] == b"SENTINEL":
            return b"*3\r\n:0\r\n$1\r\n*\r\n:0\r\n"
        return b"+OK\r\n"


class Environment:
    """One Sentinel, called ``kind``, and the instances that it monitors."""

    def __init__(self, harness: Harness, kind: str, peer: IdlePeer) -> None:
        self.kind = kind
        self.peer = peer
        self.newcomer = IdlePeer("1" * 40)
        self.successor = IdlePeer("1" * 40, "2" * 40)
        self.master: RedisProcess = harness.redis("valkey")
        self.replica: RedisProcess = harness.redis("valkey", replica_of=self.master.port)
        self.gone = free_port()
        self.sentinel: SentinelProcess = harness.sentinel(
            kind,
            monitor=[("mymaster", "127.0.0.1", self.master.port, 2)],
            down_after=30_000,
            extra=[
                f"sentinel myid {MY_ID}",
                f"sentinel known-sentinel mymaster 127.0.0.1 {peer.port} {PEER_ID}",
                f"sentinel monitor gone 127.0.0.1 {self.gone} {GONE_QUORUM}",
                "sentinel down-after-milliseconds gone 300",
            ],
        )
        self.locked: SentinelProcess = harness.sentinel(
            kind, password="sesame", extra=[f"sentinel myid {MY_ID}", "sentinel deny-scripts-reconfig no"]
        )
        self.script = harness.directory / f"{kind}-script"

    @property
    def words(self) -> dict[str, str]:
        """Return the values of the placeholders of the tables."""
        return {"script": str(self.script), **{name: str(port) for name, port in self.ports.items()}}

    @property
    def ports(self) -> dict[str, int]:
        """Return the ports of all processes, and some unused ones."""
        return {
            "master": self.master.port,
            "replica": self.replica.port,
            "gone": self.gone,
            "peer": self.peer.port,
            "newcomer": self.newcomer.port,
            "successor": self.successor.port,
            "own": self.sentinel.port,
            "locked": self.locked.port,
        }

    def start_servers(self) -> None:
        """Start the servers, without waiting."""
        self.script.write_text("#!/bin/sh\nexec sleep 2\n")
        self.script.chmod(0o700)
        for server in (self.master, self.replica):
            server.start(ready=False)

    def start_sentinels(self) -> None:
        """Start the Sentinels, once the servers run; :meth:`wait_stable` waits for the rest."""
        wait_for(lambda: self.replica.replication()["master_link_status"] == "up", 60, "the replica to be synchronized")
        self.sentinel.start(ready=False)
        self.locked.start(ready=False)

    def wait_stable(self) -> None:
        """Wait until the Sentinel has discovered its replica and its peer, and has the missing master down."""
        self.sentinel.wait_ready()
        self.locked.wait_ready()

        def is_stable() -> bool:
            master = pairs(self.sentinel.call("SENTINEL", "MASTER", "mymaster"))
            gone = pairs(self.sentinel.call("SENTINEL", "MASTER", "gone"))
            replicas = self.sentinel.call("SENTINEL", "REPLICAS", "mymaster")
            peers = self.sentinel.call("SENTINEL", "SENTINELS", "mymaster")
            assert isinstance(replicas, list) and isinstance(peers, list)
            return (
                master["flags"] == "master"
                and gone["flags"] == "s_down,master,disconnected"
                and [pairs(each)["flags"] for each in replicas] == ["slave"]
                and [pairs(each)["master-link-status"] for each in replicas] == ["ok"]
                and [pairs(each)["flags"] for each in peers] == ["sentinel"]
            )

        wait_for(is_stable, 120, f"{self.sentinel.name} to have seen everything", every=0.1)
