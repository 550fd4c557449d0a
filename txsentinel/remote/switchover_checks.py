"""What must hold before a switchover from outside: all conditions are evaluated, each with its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.fitness import fitness_of
from txsentinel.remote.reports import SentinelReport, as_fields
from txsentinel.remote.rights import HOLDING_WRITES, PREFERRING, REJECTING_WRITES, refused
from txsentinel.remote.servers import ServerReport, read_server

MIN_VERSION: Final = (6, 2)
"""The first version of Redis with ``CLIENT PAUSE … WRITE``."""

SCRIPTS_REJECTED: Final = (7, 0)
"""The first version that rejects the writes of scripts, too, for lack of replicas."""

PREFERRED_PRIORITY: Final = 1
"""The priority of the candidate during the switchover; the lowest one that may be promoted."""


@dataclass(frozen=True)
class Plan:
    """
    A switchover that is possible unless ``problems`` has reasons against it.

    ``priority`` is that of the candidate before.
    """

    agreement: AddressAgreement
    old: Endpoint
    candidate: Endpoint
    leader: SentinelReport
    version: str
    lag_bytes: int | None
    priority: int | None
    rights: str
    problems: tuple[str, ...]
    scripts_write: bool = True
    """Whether scripts can write while writes are rejected."""

    @property
    def name(self) -> str:
        """The master."""
        return self.agreement.name


def choose_candidate(agreement: AddressAgreement, wanted: Endpoint | None) -> Endpoint | None:
    """Return the replica to promote: the wanted one, else the one that the Sentinels prefer; ``None`` without one."""
    if wanted is not None:
        return wanted
    report = agreement.report()
    fit = [each for each in (fitness_of(report) if report else ()) if each.fit]
    return fit[0].address if fit else None


def choose_leader(agreement: AddressAgreement) -> SentinelReport | None:
    """
    Return the Sentinel to order the failover from: not in TILT, with the newest configuration.

    One of ours is preferred: it promotes within milliseconds, C Sentinels do one step in each of their turns of 100 ms.
    """
    usable = [
        each
        for each in agreement.naming
        if each.identity is not None
        and not each.identity.in_tilt
        and each.masters[agreement.name].epoch == agreement.epoch
    ]
    return min(usable, key=lambda each: each.identity is None or each.identity.is_c, default=None)


def group_problems(agreement: AddressAgreement, candidate: Endpoint | None) -> Iterator[str]:
    """Return what the reports of the Sentinels have against a switchover."""
    name = agreement.name
    if not agreement.agreed:
        yield f"only {len(agreement.naming)} of {agreement.known} Sentinels answer with {agreement.endpoint}"
    usable = sum(each.masters[name].master.usable for each in agreement.naming)
    if usable < agreement.majority:
        yield f"only {usable} of {agreement.known} Sentinels consider the master up, {agreement.majority} needed"
    for each in agreement.members:
        report = each.masters.get(name)
        if report is not None and report.endpoint != agreement.endpoint:
            yield f"{each.endpoint} has another address: {report.endpoint}"
        if report is not None and "failover_in_progress" in report.master.flags:
            yield f"{each.endpoint} has a failover in progress"
        if each.identity is not None and each.identity.in_tilt:
            yield f"{each.endpoint} is in TILT"
    if candidate is None:
        yield "no replica may be promoted"
        return
    if candidate == agreement.endpoint:
        yield f"{candidate} is the master already"
        return
    for each in agreement.naming:
        fitness = next((f for f in fitness_of(each.masters[name]) if f.address == candidate), None)
        if fitness is None:
            yield f"{each.endpoint} does not know the replica {candidate}"
        elif fitness.unfit is not None:
            yield f"{each.endpoint} would not promote {candidate}: {fitness.unfit.text}"
        for other in each.masters[name].replicas:
            if other.endpoint != candidate and other.number("slave-priority") == PREFERRED_PRIORITY:
                yield f"{other.endpoint} has priority {PREFERRED_PRIORITY}, too; raise it for the switchover"


def server_problems(old: ServerReport, candidate: ServerReport, max_lag: int, rejects: bool = False) -> Iterator[str]:
    """Return what the servers themselves report against a switchover that holds writes, or rejects them."""
    if old.role != "master":
        yield f"the master reports the role {old.role}"
    if old.version_numbers < MIN_VERSION and not rejects:
        yield f"writes can be held from version 6.2 on; this is {old.version}; --method reject is possible"
    if candidate.role != "slave":
        yield f"the candidate reports the role {candidate.role}"
    elif not candidate.link_up:
        yield "the candidate has no link to its master"
    if candidate.replid != old.replid:
        yield f"the candidate has another replication ID: {candidate.replid[:8]}, the master {old.replid[:8]}"
    lag = old.offset - candidate.offset
    if lag > max_lag:
        yield f"the candidate is {lag:,} bytes behind, {max_lag:,} are allowed (--max-lag)"


@dataclass(frozen=True)
class ServerFindings:
    """What the two servers have reported, and the conditions that are not met."""

    version: str
    lag_bytes: int | None
    priority: int | None
    rights: str
    problems: tuple[str, ...]
    scripts_write: bool = True


def examine_servers(
    old: Endpoint, candidate: Endpoint, settings: ConnectionSettings, max_lag: int, rejects: bool = False
) -> ServerFindings:
    """Connect to both servers, read them, and test the rights of the user."""
    problems: list[str] = []
    reports: list[ServerReport] = []
    priority = None
    for endpoint in (old, candidate):
        try:
            with RemoteConnection(endpoint, settings) as connection:
                reports.append(read_server(connection, "server", "replication"))
                if endpoint == candidate:
                    found = as_fields(connection.call("CONFIG", "GET", "replica-priority"))
                    priority = int(found.get("replica-priority", "100"))
        except (ConnectionFailed, ErrorAnswer) as problem:
            problems.append(f"{endpoint}: {problem}")
    missing = 0
    for endpoint, commands in ((old, REJECTING_WRITES if rejects else HOLDING_WRITES), (candidate, PREFERRING)):
        try:
            denied = refused(endpoint, settings, commands)
        except (ConnectionFailed, ErrorAnswer):
            continue  # reported above
        missing += len(denied)
        problems += [f"{endpoint} refuses {command}: {error}" for command, error in denied.items()]
    if len(reports) < 2:
        version = reports[0].version if reports else "unknown"
        return ServerFindings(version, None, priority, "unknown", tuple(problems))
    problems += server_problems(reports[0], reports[1], max_lag, rejects)
    lag = max(reports[0].offset - reports[1].offset, 0)
    rights = "ok" if not missing else f"{missing} missing"
    scripts_write = reports[0].version_numbers < SCRIPTS_REJECTED
    return ServerFindings(reports[0].version, lag, priority, rights, tuple(problems), scripts_write)


def plan_switchover(
    agreement: AddressAgreement,
    wanted: Endpoint | None,
    settings: ConnectionSettings,
    max_lag: int,
    rejects: bool = False,
) -> Plan | tuple[str, ...]:
    """
    Evaluate all conditions.

    :param wanted: the replica to promote; ``None`` for the one that the Sentinels prefer.
    :param rejects: whether writes are to be rejected, not held.
    :returns: the plan with its problems, or only problems if there is nothing to plan with.
    """
    candidate = choose_candidate(agreement, wanted)
    problems = list(dict.fromkeys(group_problems(agreement, candidate)))
    leader = choose_leader(agreement)
    if leader is None:
        problems.append("no Sentinel can be ordered to fail over")
    if agreement.endpoint is None or candidate is None or leader is None or candidate == agreement.endpoint:
        return tuple(problems)
    found = examine_servers(agreement.endpoint, candidate, settings, max_lag, rejects)
    return Plan(
        agreement,
        agreement.endpoint,
        candidate,
        leader,
        found.version,
        found.lag_bytes,
        found.priority,
        found.rights,
        (*problems, *found.problems),
        found.scripts_write,
    )
