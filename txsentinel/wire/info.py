"""Parsing of INFO replies: only the fields that a Sentinel uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from txsentinel.wire.numbers import lenient_int
from txsentinel.wire.resp import text

_RUN_ID_LENGTH: Final = 40

_WANTED_LINES: Final = re.compile(
    rb"\n(?:"
    rb"(run_id|redis_version|role|shutdown_in_milliseconds|replica_announced|loading|second_repl_offset|db[0-9]+"
    rb"|rdb_changes_since_last_save|aof_enabled|master_(?:host|port|link_status|link_down_since_seconds|last_io_seconds_ago|failover_state|replid2?"
    rb"|repl_offset)"
    rb"|slave_(?:priority|repl_offset|read_only)):([^\r\n]*)"
    rb"|slave[0-9][^:\r\n]*:([^\r\n]*))"
)
"""Matches the used lines; each begins with the preceding line end, so that the search skips other text quickly."""


_OF_REPLICAS: Final = frozenset(
    (
        b"master_host",
        b"master_port",
        b"master_link_status",
        b"master_last_io_seconds_ago",
        b"slave_priority",
        b"slave_repl_offset",
        b"replica_announced",
    )
)
"""Fields that count only if ``role:slave`` comes before them."""

_LAG: Final = re.compile(rb",state=online,.*lag=([0-9]{1,18})")
"""The age of the last acknowledgement of a replica in seconds; in other states than ``online`` it is always 0."""

_KEYS: Final = re.compile(rb"keys=([0-9]{1,18}),expires=([0-9]{1,18})")

_KEYSPACE: Final = b"# Keyspace"
"""Begins the section with one line per database that has keys. Without this line, their number is unknown."""

NO_REPLICATION_ID: Final = "0" * _RUN_ID_LENGTH
"""``master_replid2`` of a server whose replication history continues no other one."""


@dataclass(frozen=True, slots=True)
class DataSetReport:
    """The data set and the replication history of a server according to one INFO reply."""

    replid: str
    """``master_replid``."""

    replid2: str | None
    """``master_replid2``, the ID of the history that it continues; ``None`` if it continues none."""

    offset: int
    """``master_repl_offset``, in bytes."""

    second_offset: int
    """``second_repl_offset``: the two histories are the same up to before this offset; −1 without ``replid2``."""

    keys: int | None
    """Number of keys in all databases; ``None`` if the reply does not have the number."""

    volatile_keys: int
    """How many of the keys have a time to live."""

    loading: bool
    """Whether the server is loading its data set, so that ``keys`` is not final."""

    changes: int = 0
    """
    ``rdb_changes_since_last_save``: soon after a start, how many keys were written or deleted since then. The commands
    that were loaded from an append-only file count, too.
    """

    append_only: bool = False
    """Whether the server keeps an append-only file."""

    read_only: bool = True
    """Whether it is no replica that accepts writes, and so may have keys that its master never had."""


@dataclass(frozen=True, slots=True)
class InfoReport:
    """
    The parsed fields of one INFO reply; ``None`` for fields that are missing in it.

    The fields of a replica (``master_host``, ``master_port``, ``master_link_up``, ``priority``, ``repl_offset``,
    ``announced``) are only set if ``role:slave`` comes *before* them in the reply.
    """

    run_id: str | None = None
    role: str | None = None
    """``master`` or ``slave``."""

    replicas: tuple[tuple[str, int], ...] = ()
    """``(host, port)`` of each replica in the reply, in the order of the reply; ports are 1..65535."""

    master_link_down_for: int = 0
    """Milliseconds since the server lost the link to its master; 0 while it is up, −1000 if it never was."""

    master_host: str | None = None
    master_port: int | None = None
    master_link_up: bool | None = None
    priority: int | None = None
    repl_offset: int | None = None
    announced: bool | None = None
    master_last_io: int | None = None
    """Milliseconds since the last data of the master arrived, in steps of a second; ``None`` while the link is down."""

    shutting_down: bool = False
    """Whether the server is executing SHUTDOWN, and waits for its replicas."""

    failover_running: bool | None = None
    """Whether the server is executing its own ``FAILOVER`` command; ``None`` if it does not support that command."""

    major_version: int | None = None
    """The first number of ``redis_version``; Valkey reports the version of Redis that it is compatible with."""

    least_lag: int | None = None
    """Seconds since the latest acknowledgement of any replica that is online; ``None`` if none is, or not reported."""

    data_set: DataSetReport | None = None
    """``None`` for servers that report no replication ID, those before Redis 4."""


MAX_HOST: Final = 255
"""Length in bytes of the longest host in a reply; lines with a longer one are skipped."""


def shortened(raw: bytes, maximum: int) -> bytes:
    """Cut an INFO reply to its first whole lines, at most ``maximum`` bytes."""
    return raw if len(raw) <= maximum else raw[: raw.rfind(b"\n", 0, maximum) + 1]


def parse_info(raw: bytes, max_replicas: int = 2_000) -> InfoReport:
    """
    Parse an INFO reply. Unknown lines, garbage and bare line feeds are skipped; nothing raises.

    :param max_replicas: maximum number of replica lines that are parsed; further ones are skipped.
    """
    role = None
    keys = volatile_keys = 0
    replicas: list[tuple[str, int]] = []
    least_lag = None
    follows = False
    fields: dict[bytes, bytes] = {}
    for name, value, replica in _WANTED_LINES.findall(b"\n" + raw):
        if not name:
            found = _replica(replica) if len(replicas) < max_replicas else None
            if found is not None:
                replicas.append(found)
                lag = _LAG.search(replica)
                if lag is not None and (least_lag is None or int(lag[1]) < least_lag):
                    least_lag = int(lag[1])
        elif name == b"role":
            if value.startswith(b"master"):
                role = "master"
            elif value.startswith(b"slave"):
                role = "slave"
                follows = True
        elif name.startswith(b"db"):
            numbers = _KEYS.match(value)
            if numbers is not None:
                keys += int(numbers[1])
                volatile_keys += int(numbers[2])
        elif (follows or name not in _OF_REPLICAS) and (name != b"run_id" or len(value) >= _RUN_ID_LENGTH):
            fields[name] = value
    get = fields.get
    run_id, version, state = get(b"run_id"), get(b"redis_version"), get(b"master_failover_state")
    replid, replid2 = _replication_id(get(b"master_replid")), _replication_id(get(b"master_replid2"))
    host, link_status = get(b"master_host"), get(b"master_link_status")
    last_io = _number(get(b"master_last_io_seconds_ago"), -1)
    announced = get(b"replica_announced")
    return InfoReport(
        None if run_id is None else text(run_id[:_RUN_ID_LENGTH]),
        role,
        tuple(replicas),
        _number(get(b"master_link_down_since_seconds"), 0) * 1000,
        None if host is None or len(host) > MAX_HOST else text(host),
        _optional_number(get(b"master_port")),
        None if link_status is None else link_status.lower() == b"up",
        _optional_number(get(b"slave_priority")),
        # Signed, unlike upstream: the -1 of a replica without data must not become the highest offset.
        _optional_number(get(b"slave_repl_offset")),
        None if announced is None else lenient_int(announced) != 0,
        last_io * 1000 if last_io >= 0 else None,
        b"shutdown_in_milliseconds" in fields,
        None if state is None else not state.startswith(b"no-failover"),
        None if version is None else lenient_int(version.partition(b".")[0]),
        least_lag,
        None
        if replid is None
        else DataSetReport(
            replid,
            None if replid2 == NO_REPLICATION_ID else replid2,
            _number(get(b"master_repl_offset"), 0),
            _number(get(b"second_repl_offset"), -1),
            keys if raw.rfind(_KEYSPACE) >= 0 else None,
            volatile_keys,
            get(b"loading", b"0") != b"0",
            _number(get(b"rdb_changes_since_last_save"), 0),
            get(b"aof_enabled") == b"1",
            get(b"slave_read_only") != b"0",
        ),
    )


def _optional_number(value: bytes | None) -> int | None:
    return None if value is None else lenient_int(value)


def _number(value: bytes | None, default: int) -> int:
    return default if value is None else lenient_int(value)


def _replication_id(value: bytes | None) -> str | None:
    return text(value) if value is not None and len(value) == _RUN_ID_LENGTH else None


def online_replicas(raw: bytes, max_age: int) -> tuple[tuple[str, int], ...]:
    """
    Return the replicas that are online according to an INFO reply, as ``(host, port)``.

    :param max_age: maximum number of seconds since their last acknowledgement.
    """
    found = []
    for name, _, replica in _WANTED_LINES.findall(b"\n" + raw):
        lag = None if name else _LAG.search(replica)
        place = _replica(replica) if lag is not None and int(lag[1]) <= max_age else None
        if place is not None:
            found.append(place)
    return tuple(found)


_CLIENTS: Final = re.compile(rb"\nconnected_clients:([0-9]{1,18})")


def connected_clients(raw: bytes) -> int | None:
    """Return the number of clients without replicas in an INFO reply; ``None`` if it does not have it."""
    found = _CLIENTS.search(raw)
    return None if found is None else int(found[1])


def _replica(value: bytes) -> tuple[str, int] | None:
    """
    Return host and port of ``ip=…,port=…,state=…`` or, from servers before 2.8, ``ip,port,state``.

    :returns: ``None`` if either is missing or unusable, and for the second connection of a replica that is
        synchronizing over two channels (``type=rdb-channel``).
    """
    if b",type=rdb-channel" in value:
        return None
    _, marked, host = value.partition(b"ip=")
    if marked:
        _, marked, port = value.partition(b"port=")
        if not marked:
            return None
        host = host.partition(b",")[0]
    else:
        host, comma, port = value.partition(b",")
        if not comma:
            return None
    number = lenient_int(port)
    return (text(host), number) if 0 < len(host) <= MAX_HOST and 0 < number < 65536 else None
