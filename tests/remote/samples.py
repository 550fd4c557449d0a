"""Sentinels as plain data: what they would answer, without any connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.reports import CachedInfo, InstanceReport, MasterReport, SentinelIdentity, SentinelReport

NAME = "mymaster"
REPLID = "8" * 40
SENTINELS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
REPLICAS = ("10.0.0.1", "10.0.0.3")
MASTER = "10.0.0.2"


def identifier(host: str) -> str:
    """Return an ID of 40 digits for a host."""
    return f"{host.rpartition('.')[2]:0>40}"


def master_fields(**changed: str) -> dict[str, str]:
    """Return the fields of a healthy master; dashes are underscores in ``changed``."""
    fields = {
        "name": NAME,
        "ip": MASTER,
        "port": "6379",
        "runid": identifier(MASTER),
        "flags": "master",
        "last-ok-ping-reply": "150",
        "last-ping-reply": "150",
        "down-after-milliseconds": "1500",
        "info-refresh": "2000",
        "role-reported": "master",
        "role-reported-time": "11520000",
        "config-epoch": "7",
        "num-slaves": "2",
        "num-other-sentinels": "2",
        "quorum": "2",
        "failover-timeout": "60000",
        "parallel-syncs": "1",
    }
    return fields | {name.replace("_", "-"): value for name, value in changed.items()}


def replica(host: str, **changed: str) -> InstanceReport:
    """Return a healthy replica."""
    fields = {
        "name": f"{host}:6379",
        "ip": host,
        "port": "6379",
        "runid": identifier(host),
        "flags": "slave",
        "last-ok-ping-reply": "150",
        "last-ping-reply": "150",
        "down-after-milliseconds": "1500",
        "info-refresh": "2000",
        "role-reported": "slave",
        "master-link-down-time": "0",
        "master-link-status": "ok",
        "master-host": MASTER,
        "master-port": "6379",
        "slave-priority": "100",
        "slave-repl-offset": "5215869",
        "replica-announced": "1",
    }
    return InstanceReport(fields | {name.replace("_", "-"): value for name, value in changed.items()})


def peer(host: str, **changed: str) -> InstanceReport:
    """Return a healthy Sentinel as another one reports it."""
    fields = {
        "name": identifier(host),
        "ip": host,
        "port": "26379",
        "runid": identifier(host),
        "flags": "sentinel",
        "last-ok-ping-reply": "150",
        "last-ping-reply": "150",
        "down-after-milliseconds": "1500",
        "last-hello-message": "300",
        "voted-leader": "?",
        "voted-leader-epoch": "0",
    }
    return InstanceReport(fields | {name.replace("_", "-"): value for name, value in changed.items()})


def info(host: str, role: str, offset: int = 5_215_869, **changed: str) -> CachedInfo:
    """Return the INFO of a server that a Sentinel keeps."""
    fields = {
        "redis_version": "7.0.15",
        "run_id": identifier(host),
        "role": role,
        "master_replid": REPLID,
        "master_replid2": "0" * 40,
        "second_repl_offset": "-1",
        "master_repl_offset": str(offset),
        "repl_backlog_size": "268435456",
        "repl_backlog_first_byte_offset": "1",
        "aof_enabled": "1",
        "tcp_port": "6379",
    }
    if role == "slave":
        fields |= {"slave_repl_offset": str(offset), "master_link_status": "up", "connected_slaves": "0"}
    return CachedInfo(2000, fields | changed)


def master_report(
    own: str,
    master: Mapping[str, str] | None = None,
    replicas: Sequence[InstanceReport] | None = None,
    peers: Sequence[InstanceReport] | None = None,
    infos: Sequence[CachedInfo] | None = None,
    check: str = "OK 3 usable Sentinels. Quorum and failover authorization can be reached",
) -> MasterReport:
    """Return what the Sentinel at ``own`` reports; everything is healthy unless it is given."""
    if infos is None:
        infos = [info(MASTER, "master"), *(info(each, "slave") for each in REPLICAS)]
    return MasterReport(
        InstanceReport(master_fields() if master is None else master),
        tuple([replica(each) for each in REPLICAS] if replicas is None else replicas),
        tuple([peer(each) for each in SENTINELS if each != own] if peers is None else peers),
        check,
        {each.fields["run_id"]: each for each in infos},
    )


def sentinel(
    host: str, report: MasterReport | None = None, kind: str = "redis", version: str = "7.0.15", **changed: str
) -> SentinelReport:
    """Return a Sentinel that monitors one master; ``changed`` are fields of the master."""
    if report is None:
        report = master_report(host, master_fields(**changed))
    identity = SentinelIdentity(kind, version, identifier(host), {"run_id": "e" * 40})
    return SentinelReport(
        Endpoint(host, 26379), identity, {report.master.name: report}, None, identifier(host), 2.0, 3.0, True
    )


def unreachable(host: str, problem: str = "connection refused") -> SentinelReport:
    """Return a Sentinel that does not answer."""
    return SentinelReport(Endpoint(host, 26379), problem=problem, sentinel_id=identifier(host))


def fleet(*sentinels: SentinelReport) -> FleetReport:
    """Return a fleet; a healthy one of three C Sentinels without arguments."""
    return FleetReport(sentinels or tuple(sentinel(host) for host in SENTINELS))
