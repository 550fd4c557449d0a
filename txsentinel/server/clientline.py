"""The line that describes a client in CLIENT LIST, CLIENT INFO and the log."""

from __future__ import annotations

from txsentinel.model.timings import Millis
from txsentinel.server.clients import Client
from txsentinel.wire.resp import text


def flag_letters(client: Client) -> str:
    """Return the flags of a client, one letter each, in the order of Redis."""
    tracking = client.tracking
    conditions = (
        ("P", client.subscriptions > 0),
        ("b", client.paused),
        ("t", tracking is not None),
        ("B", tracking is not None and tracking.broadcast),
        ("c", client.connection.closing),
        ("U", client.unix),
        ("e", client.no_evict),
    )
    return "".join(letter for letter, holds in conditions if holds) or "N"


def client_line(client: Client, now: Millis) -> str:
    """
    Return the line without its end: ``key=value`` pairs in the order of Redis 8.2, and ``capa`` where Valkey has it.

    The sizes of buffers that do not exist here are zero.
    """
    connection = client.connection
    buffered, unsent = connection.buffered, connection.unsent
    pairs = (
        ("id", client.client_id),
        ("addr", client.address),
        ("laddr", client.local_address),
        ("fd", connection.descriptor),
        ("name", text(client.name)),
        ("age", (now - client.connected_at) // 1000),
        ("idle", (now - client.last_active) // 1000),
        ("flags", flag_letters(client)),
        ("capa", ""),
        ("db", 0),
        ("sub", len(client.channels)),
        ("psub", len(client.patterns)),
        ("ssub", 0),
        ("multi", -1),
        ("watch", 0),
        ("qbuf", buffered),
        ("qbuf-free", 0),
        ("argv-mem", 0),
        ("multi-mem", 0),
        ("rbs", 0),
        ("rbp", 0),
        ("obl", 0),
        ("oll", connection.queued),
        ("omem", unsent),
        ("tot-mem", buffered + unsent),
        ("events", "rw" if unsent else "r"),
        ("cmd", client.last_command.name if client.last_command is not None else "NULL"),
        ("user", client.user),
        ("redir", -1 if client.tracking is None else client.tracking.redirect),
        ("resp", client.protocol),
        ("lib-name", text(client.library_name)),
        ("lib-ver", text(client.library_version)),
        ("io-thread", 0),
        ("tot-net-in", client.input_bytes),
        ("tot-net-out", client.output_bytes),
        ("tot-cmds", client.commands_processed),
    )
    return " ".join(f"{key}={value}" for key, value in pairs)
