"""
Which commands a user may execute, without executing any: each is queued in a transaction that is then dropped.

Servers check permissions when a command is queued (measured with Redis 6.2 and 7.0 and Valkey 9.1). Each command that
is not permitted adds an entry to ``ACL LOG``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionSettings, RemoteConnection
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine

Command = tuple[str, ...]

OBSERVING: Final[tuple[Command, ...]] = (("PING",), ("INFO",), ("SUBSCRIBE", "__sentinel__:hello"))
"""What a Sentinel needs to monitor; SUBSCRIBE cannot be queued on Redis 6.2, and its refusal is no lack of rights."""

FAILING_OVER: Final[tuple[Command, ...]] = (
    ("PUBLISH", "__sentinel__:hello", ""),
    ("SLAVEOF", "NO", "ONE"),
    ("CONFIG", "REWRITE"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "KILL"),
)
"""What a Sentinel needs to fail over."""

COORDINATING: Final[tuple[Command, ...]] = (
    ("CLIENT", "PAUSE", "1", "WRITE"),
    ("CLIENT", "UNPAUSE"),
    ("FAILOVER", "ABORT"),
)
"""What a coordinated failover needs in addition."""

HOLDING_WRITES: Final[tuple[Command, ...]] = (
    ("INFO", "replication"),
    ("CLIENT", "PAUSE", "1", "WRITE"),
    ("CLIENT", "UNPAUSE"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SLAVEOF", "NO", "ONE"),
)
"""What a switchover from outside needs at the old master."""

REJECTING_WRITES: Final[tuple[Command, ...]] = (
    ("INFO", "replication"),
    ("CONFIG", "GET", "min-replicas-to-write"),
    ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SLAVEOF", "NO", "ONE"),
)
"""What it needs there if writes are rejected."""

PREFERRING: Final[tuple[Command, ...]] = (
    ("INFO", "replication"),
    ("CONFIG", "GET", "replica-priority"),
    ("CONFIG", "SET", "replica-priority", "1"),
)
"""What a switchover from outside needs at the new master."""


def label_of(command: Command) -> str:
    """Return the name of a command, with its subcommand."""
    return " ".join(command[:2] if command[0] in ("CLIENT", "CONFIG", "SCRIPT") else command[:1])


def refused(endpoint: Endpoint, settings: ConnectionSettings, commands: Sequence[Command]) -> dict[str, str]:
    """
    Return the commands that the user of these settings may not execute, or that the server does not know.

    :returns: command → error line.
    :raises ConnectionFailed: if there is no connection.
    :raises ErrorAnswer: if the login is refused, or MULTI is.
    """
    with RemoteConnection(endpoint, settings) as connection:
        connection.call("MULTI")
        replies = connection.pipeline(commands)
        # Closing the connection drops the transaction.
    return {
        label_of(command): text(reply)
        for command, reply in zip(commands, replies, strict=True)
        if isinstance(reply, ErrorLine) and not reply.startswith(b"ERR Command not allowed inside a transaction")
    }
