"""Checks of the master and its replicas: fitness, rights, identity, data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.doctor.examination import Examination
from txsentinel.remote.reports import number
from txsentinel.remote.rights import COORDINATING, FAILING_OVER, OBSERVING, label_of

BACKLOG_SECONDS: Final = 60
"""For how long a backlog should have the writes, so that a switch costs no full resyncs."""

NEEDED: Final = frozenset(label_of(each) for each in (*OBSERVING, *FAILING_OVER))
COORDINATED: Final = frozenset(label_of(each) for each in COORDINATING)


def check_candidates(x: Examination) -> Iterator[Finding]:
    """A replica could be promoted now."""
    if not x.replicas:
        yield Finding("D04", Severity.ERROR, x.name, "it has no replicas", "REPLICAOF on another server")
    elif not any(each.fit for each in x.replicas):
        listed = ", ".join(f"{each.name}: {each.unfit.text if each.unfit else ''}" for each in x.replicas)
        yield Finding("D04", Severity.ERROR, x.name, f"no replica could be promoted: {listed}")


def check_rights(x: Examination) -> Iterator[Finding]:
    """The user may execute what a Sentinel needs."""
    for server in x.servers.values():
        for command, error in (server.denied or {}).items():
            severity = Severity.ERROR if command in NEEDED else Severity.WARNING
            purpose = "a failover" if command in NEEDED else "a coordinated failover"
            word = command.lower().replace(" ", "|")
            yield Finding(
                "D05",
                severity,
                str(server.endpoint),
                f"{command}, needed for {purpose}, is refused: {error}",
                f"ACL SETUSER USER +{word}" if error.startswith("NOPERM") else None,
            )


def check_identities(x: Examination) -> Iterator[Finding]:
    """Each node has one name, and each run ID one node."""
    seen: dict[str, dict[str, set[Endpoint]]] = {"server": {}, "Sentinel": {}}
    for report in x.reports.values():
        for each in (report.master, *report.replicas):
            if each.run_id:
                seen["server"].setdefault(each.run_id, set()).add(each.endpoint)
        for each in report.peers:
            seen["Sentinel"].setdefault(each.run_id, set()).add(each.endpoint)
    for kind, found in seen.items():
        for run_id, endpoints in found.items():
            if len(endpoints) > 1:
                listed = ", ".join(sorted(map(str, endpoints)))
                yield Finding(
                    "D10",
                    Severity.ERROR,
                    listed,
                    f"one {kind} is known under several addresses, or several have one ID: {run_id[:8]}",
                    f"resolve-hostnames and announce-hostnames equal everywhere, then SENTINEL RESET {x.name}",
                )


def check_lineage(x: Examination) -> Iterator[Finding]:
    """Replicas have the data set of the master, and Sentinels monitor it."""
    for replica in x.report.replicas:
        info = x.report.info_of(replica)
        master = x.report.info_of(x.report.master)
        if info is None or master is None or info.fields.get("master_link_status") != "up":
            continue
        lineage = {master.replid, master.fields.get("master_replid2")}
        if info.replid not in lineage and replica.fields.get("master-host") == x.report.endpoint.host:
            yield Finding(
                "D11",
                Severity.ERROR,
                str(replica.endpoint),
                f"its replication ID {(info.replid or '')[:8]} is not in the history of the master"
                f" ({(master.replid or '')[:8]})",
                f"SENTINEL RESET {x.name} if it belongs to another group",
            )
    for each in x.members:
        if each.reachable and x.name not in each.masters:
            yield Finding(
                "D11",
                Severity.ERROR,
                str(each.endpoint),
                f"others count it as a Sentinel of {x.name}, but it does not monitor it",
                f"SENTINEL MONITOR {x.name} {x.report.endpoint.host} {x.report.endpoint.port} {x.agreement.quorum}",
            )


def check_isolation(x: Examination) -> Iterator[Finding]:
    """A master without its replicas stops taking writes."""
    server = x.servers.get(x.report.endpoint)
    if server is None or server.settings is None:
        return
    value = number(server.settings.get("min-replicas-to-write"), -1)
    fenced = any(each.master.fields.get("fence-isolated", "off") != "off" for each in x.reports.values())
    if value == 0 and not fenced:
        yield Finding(
            "D13",
            Severity.WARNING,
            str(server.endpoint),
            "min-replicas-to-write is 0: cut off from its replicas it goes on taking writes, which are lost then",
            "CONFIG SET min-replicas-to-write 1",
            {"min_replicas_to_write": 0},
        )


def check_backlog(x: Examination) -> Iterator[Finding]:
    """Backlogs have the writes of a minute."""
    master = x.servers.get(x.report.endpoint)
    if master is None or master.report is None or master.later is None or master.apart_ms <= 0:
        return
    rate = (master.later.offset - master.report.offset) / master.apart_ms * 1000
    for server in x.servers.values():
        if server.report is None:
            continue
        backlog = number(server.report.fields.get("repl_backlog_size"))
        if backlog and rate * BACKLOG_SECONDS > backlog:
            seconds = backlog / rate
            yield Finding(
                "D14",
                Severity.WARNING,
                str(server.endpoint),
                f"its backlog of {backlog:,} bytes has the writes of {seconds:.0f} s; longer moves cost full resyncs",
                f"CONFIG SET repl-backlog-size {int(rate * 2 * BACKLOG_SECONDS)}",
                {"backlog_bytes": backlog, "bytes_per_second": round(rate)},
            )


def check_persistence(x: Examination) -> Iterator[Finding]:
    """A server that restarts has its data."""
    for server in x.servers.values():
        if server.report is None or server.settings is None or "save" not in server.settings:
            continue
        if server.settings["save"] == "" and server.report.fields.get("aof_enabled", "0") == "0":
            yield Finding(
                "D15",
                Severity.WARNING,
                str(server.endpoint),
                "it saves nothing: as a master that restarts before it is failed over, it empties its replicas",
                "CONFIG SET appendonly yes, or do not restart it automatically",
            )


def check_chains(x: Examination) -> Iterator[Finding]:
    """Replicas follow the master itself."""
    known = {each.endpoint for each in x.report.replicas}
    for replica in x.report.replicas:
        follows = Endpoint(replica.fields.get("master-host", ""), replica.number("master-port"))
        if follows in known and follows != replica.endpoint:
            yield Finding(
                "D16",
                Severity.WARNING,
                str(replica.endpoint),
                f"it follows the replica {follows}; a failover makes it follow the new master",
            )
    for endpoint, server in x.servers.items():
        below = 0 if server.report is None else number(server.report.fields.get("connected_slaves"))
        if below and endpoint != x.report.endpoint and server.report is not None and server.report.role == "slave":
            yield Finding(
                "D16",
                Severity.WARNING,
                str(endpoint),
                f"{below} replicas follow this replica; Sentinels do not monitor them",
                None,
                {"replicas": below},
            )
