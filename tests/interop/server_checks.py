"""
Checks of real servers after a failover: the invariants of ``txsentinel.sim.server_checks``.

They do not depend on Sentinels, except for the address of the master.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable

from tests.servers import Connection, RedisProcess, ReplyError

LIMIT = 1.0
"""Seconds for which a server may block writes, or keep old clients, after an operation."""


class Clients:
    """A normal client and two subscribers of one server, as a context manager."""

    def __init__(self, server: RedisProcess) -> None:
        """
        Connect.

        :raises OSError: if the server cannot be reached.
        """
        self.server = server
        self._connections: dict[str, Connection] = {}
        try:
            for kind, words in (
                ("normal client", ("PING",)),
                ("subscriber", ("SUBSCRIBE", "aftermath")),
                ("subscriber by pattern", ("PSUBSCRIBE", "aftermath*")),
            ):
                self._connections[kind] = connection = Connection(server.port, server.password)
                connection.call(*words)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def connected(self) -> list[str]:
        """Return the kinds of clients whose connection is open."""
        return [kind for kind, connection in self._connections.items() if not _closed(connection)]

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()


def _closed(connection: Connection) -> bool:
    """Whether the server closed it; earlier data is discarded."""
    while select.select([connection], [], [], 0)[0]:
        duplicate = socket.socket(fileno=connection.fileno())
        try:
            if not duplicate.recv(65_536):
                return True
        except OSError:
            return True
        finally:
            duplicate.detach()
    return False


def named_master(server: RedisProcess) -> tuple[str, str] | None:
    """Return the master in the configuration file of a server as host and port, or ``None``."""
    named = None
    for line in (server.directory / "redis.conf").read_text().splitlines():
        words = [word.strip('"') for word in line.split()]
        if words and words[0].lower() in ("replicaof", "slaveof"):
            named = None if [word.lower() for word in words[1:]] == ["no", "one"] else (words[1], words[2])
    return named


def server_problems(servers: Iterable[RedisProcess], master: int) -> list[str]:
    """
    Return the problems of the servers of a group after a failover; empty if there are none.

    :param servers: those that can be reached.
    :param master: the port of the master according to the Sentinels.
    """
    problems = []
    for server in servers:
        try:
            fields = server.replication()
        except (OSError, ReplyError) as problem:
            problems.append(f"{server.name} does not answer: {problem}")
            continue
        real = (fields["master_host"], fields["master_port"]) if fields["role"] == "slave" else None
        if (real is None) != (server.port == master):
            problems.append(f"{server.name} is a {fields['role']}, and the master is {master}")
        elif real is not None and real[1] != str(master):
            problems.append(f"{server.name} follows {real}, and the master is {master}")
        if named_master(server) != real:
            problems.append(f"the file of {server.name} names {named_master(server)}, and it follows {real}")
        if fields.get("master_failover_state", "no-failover") != "no-failover":
            problems.append(f"{server.name} is in a FAILOVER: {fields['master_failover_state']}")
        problems += pause_problems(server)
    return problems


def pause_problems(server: RedisProcess) -> list[str]:
    """Return whether the server blocks writes: a pause blocks PUBLISH, on replicas as well."""
    try:
        with Connection(server.port, server.password) as publisher:
            publisher.send("PUBLISH", "aftermath", "x")
            began = time.monotonic()
            while not select.select([publisher], [], [], LIMIT)[0]:
                # A server that only waits for the processor has answered the earlier command before this one.
                server.call("PING")
                if not select.select([publisher], [], [], 0)[0]:
                    return [f"{server.name} holds writes: PUBLISH is not answered for {time.monotonic() - began:.1f} s"]
            reply = publisher.read_reply()
            if isinstance(reply, ReplyError):
                raise reply
    except (OSError, ReplyError) as problem:
        return [f"{server.name} does not take PUBLISH: {problem}"]
    return []


def client_problems(clients: Clients) -> list[str]:
    """Return the clients that are still connected to a demoted master."""
    return [f"a {kind} is still connected to {clients.server.name}, which was demoted" for kind in clients.connected()]
