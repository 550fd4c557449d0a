"""Reads one Sentinel: a few pipelined commands on one connection."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.reports import (
    CachedInfo,
    InstanceReport,
    MasterReport,
    SentinelIdentity,
    SentinelReport,
    as_fields,
    as_text,
    identity_of,
    info_fields,
    number,
)
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine, Reply


@dataclass(frozen=True)
class Scope:
    """
    What to read.

    :param names: the masters; ``None`` for all.
    :param details: also the replicas, CKQUORUM and the cached INFO; the other Sentinels are always read.
    """

    names: Collection[str] | None = None
    details: bool = True


@dataclass(frozen=True)
class SelfDescription:
    """What a Sentinel answers about itself."""

    identity: SentinelIdentity
    clock_offset_ms: float | None


def describe_self(connection: RemoteConnection) -> SelfDescription:
    """
    Ask a Sentinel for its kind, version, ID and clock.

    :raises ErrorAnswer: if it refuses INFO, or is no Sentinel.
    """
    before = time.time()
    info, own_id = connection.pipeline([("INFO",), ("SENTINEL", "MYID")])
    after = time.time()
    if isinstance(info, ErrorLine):
        raise ErrorAnswer(text(info))
    fields = info_fields(info)
    mode = fields.get("redis_mode", fields.get("server_mode", ""))
    if mode and mode != "sentinel":
        raise ErrorAnswer(f"it is no Sentinel but a server in mode {mode}")
    unknown = isinstance(own_id, ErrorLine) or not isinstance(own_id, bytes)
    micros = number(fields.get("server_time_usec"))
    offset = micros / 1000 - (before + after) * 500 if micros else None
    return SelfDescription(identity_of(fields, None if unknown else as_text(own_id)), offset)


def read_sentinel(endpoint: Endpoint, settings: ConnectionSettings, scope: Scope) -> SentinelReport:
    """Read one Sentinel; a failure is part of the report."""
    begun = time.monotonic()
    try:
        with RemoteConnection(endpoint, settings) as connection:
            found = describe_self(connection)
            masters = read_masters(connection, scope)
    except (ConnectionFailed, ErrorAnswer) as problem:
        return SentinelReport(endpoint, problem=str(problem))
    return SentinelReport(
        endpoint,
        found.identity,
        {each.master.name: each for each in masters},
        None,
        found.identity.sentinel_id,
        (time.monotonic() - begun) * 1000,
        found.clock_offset_ms,
    )


def read_masters(connection: RemoteConnection, scope: Scope) -> list[MasterReport]:
    """
    Read the masters of a scope; those that the Sentinel does not monitor are missing in the result.

    :raises ErrorAnswer: if the commands are not permitted.
    """
    if scope.names is None:
        masters = instances(connection.call("SENTINEL", "MASTERS"))
    else:
        replies = connection.pipeline([("SENTINEL", "MASTER", name) for name in scope.names])
        masters = []
        for reply in replies:
            if isinstance(reply, ErrorLine):
                if not reply.startswith(b"ERR No such master"):
                    raise ErrorAnswer(text(reply))
            else:
                masters.append(InstanceReport(as_fields(reply)))
    words = ("SENTINELS", "REPLICAS", "CKQUORUM", "INFO-CACHE") if scope.details else ("SENTINELS",)
    replies = connection.pipeline([("SENTINEL", word, each.name) for each in masters for word in words])
    return [
        master_report(each, replies[place * len(words) : (place + 1) * len(words)])
        for place, each in enumerate(masters)
    ]


def master_report(master: InstanceReport, replies: Sequence[Reply]) -> MasterReport:
    """Make a report from the answers to SENTINELS and, with details, REPLICAS, CKQUORUM and INFO-CACHE."""
    peers = tuple(instances(replies[0]))
    if len(replies) == 1:
        return MasterReport(master, peers=peers)
    _, replicas, check, cached = replies
    return MasterReport(master, tuple(instances(replicas)), peers, as_text(check), cached_infos(cached))


def instances(reply: Reply) -> list[InstanceReport]:
    """Return the instances of an array of arrays; empty for an error."""
    return [InstanceReport(as_fields(each)) for each in reply] if isinstance(reply, list) else []


def cached_infos(reply: Reply) -> dict[str, CachedInfo]:
    """Return the texts of ``INFO-CACHE`` for one master by the run IDs in them."""
    found = {}
    groups = reply[1::2] if isinstance(reply, list) else list(reply.values()) if isinstance(reply, dict) else []
    for entries in groups:
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], bytes):
                fields = info_fields(entry[1])
                if "run_id" in fields:
                    found[fields["run_id"]] = CachedInfo(number(as_text(entry[0])), fields)
    return found
