"""Checks of the group of Sentinels: agreement, arithmetic, hosts, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.doctor.examination import Examination

MAX_HOSTS: Final = 60
"""Hosts whose pairs are enumerated; more are only examined one by one."""


def check_addresses(x: Examination) -> Iterator[Finding]:
    """All Sentinels answer with one address of one epoch."""
    agreement = x.agreement
    for endpoint, report in x.reports.items():
        if report.endpoint != agreement.endpoint:
            yield Finding(
                "D01",
                Severity.ERROR,
                str(endpoint),
                f"it answers with {report.endpoint} of epoch {report.epoch}, the others with {agreement.endpoint}"
                f" of epoch {agreement.epoch}",
                f"SENTINEL RESET {x.name} at {endpoint}, if it does not follow within seconds",
                {"epoch": report.epoch, "newest": agreement.epoch},
            )
        elif report.epoch != agreement.epoch:
            yield Finding(
                "D01",
                Severity.ERROR,
                str(endpoint),
                f"it has epoch {report.epoch}, the others {agreement.epoch}",
                None,
                {"epoch": report.epoch, "newest": agreement.epoch},
            )
    if not agreement.agreed:
        yield Finding(
            "D01",
            Severity.ERROR,
            x.name,
            f"only {len(agreement.naming)} of {agreement.known} Sentinels answer with {agreement.endpoint}",
            None,
            {"agreeing": len(agreement.naming), "known": agreement.known},
        )


def check_arithmetic(x: Examination) -> Iterator[Finding]:
    """Quorum and majority can be reached, and count no Sentinels that are gone."""
    situation = x.situation
    total, live, needed = len(situation.voters), situation.live, situation.needed
    figures: dict[str, int | float | str] = {
        "quorum": situation.quorum,
        "known": total,
        "live": live,
        "needed": needed,
    }
    fix = f"txsentinel set {x.name} quorum {total // 2 + 1} --fleet"
    if situation.quorum > total:
        text = f"the quorum is {situation.quorum}, but only {total} Sentinels are known"
        yield Finding("D02", Severity.ERROR, x.name, text, fix, figures)
    elif live < needed:
        text = f"{needed} of {total} Sentinels are needed for a failover, {live} are live"
        yield Finding("D02", Severity.ERROR, x.name, text, None, figures)
    elif total > 1 and situation.quorum <= 1:
        text = "the quorum is 1: a single Sentinel that loses its network starts failovers"
        yield Finding("D02", Severity.WARNING, x.name, text, fix, figures)
    for voter in situation.voters:
        if voter.is_ghost:
            hours = (voter.silent_ms or 0) // 3_600_000
            yield Finding(
                "D02",
                Severity.WARNING,
                str(voter.endpoint),
                f"no Sentinel has received a hello of it for {hours} hours, but it counts for the majority",
                f"txsentinel forget {x.name} {voter.endpoint} --reset-c-peers",
                {"hours": hours},
            )
    counts = {endpoint: len(report.peers) + 1 for endpoint, report in x.reports.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{endpoint} knows {count}" for endpoint, count in counts.items())
        yield Finding("D02", Severity.ERROR, x.name, f"the Sentinels count differently: {listed}")


def check_survival(x: Examination) -> Iterator[Finding]:
    """No single host is needed for a failover."""
    sentinels: dict[str, int] = {}
    for voter in x.situation.voters:
        if voter.live:
            sentinels[voter.endpoint.host] = sentinels.get(voter.endpoint.host, 0) + 1
    fit = [each.address.host for each in x.replicas if each.fit]
    hosts = sorted({*sentinels, *fit, x.report.endpoint.host})

    def is_fatal(lost: tuple[str, ...]) -> str | None:
        live = x.situation.live - sum(sentinels.get(host, 0) for host in lost)
        if live < x.situation.needed:
            return f"{live} Sentinels would be left, {x.situation.needed} are needed"
        if all(host in lost for host in fit):
            return "no fit replica would be left"
        return None

    if is_fatal(()) is not None:
        return  # reported by D02 and D04
    single = {host: reason for host in hosts if (reason := is_fatal((host,))) is not None}
    pairs = []
    if len(hosts) <= MAX_HOSTS:
        safe = [host for host in hosts if host not in single]
        pairs = [" and ".join(pair) for pair in combinations(safe, 2) if is_fatal(pair) is not None]
    for host, reason in single.items():
        yield Finding(
            "D03",
            Severity.NOTE,
            host,
            f"without this host there is no failover: {reason}",
            None,
            {"fatal_pairs_of_others": len(pairs)},
        )


def check_drift(x: Examination) -> Iterator[Finding]:
    """Settings are equal everywhere."""
    for drift in (*x.agreement.drifts, *x.own_drifts):
        listed = ", ".join(f"{endpoint} has {value or 'none'}" for endpoint, value in drift.values.items())
        fix = None
        if drift in x.agreement.drifts:
            fix = f"txsentinel set {x.name} {drift.setting} {drift.usual or 'VALUE'} --fleet"
        yield Finding("D09", Severity.WARNING, x.name, f"{drift.setting} differs: {listed}", fix)
    hashes = {endpoint: _options_hash(x, endpoint) for endpoint in x.own}
    if len({each for each in hashes.values() if each}) > 1 and not x.agreement.drifts:
        listed = ", ".join(map(str, hashes))
        yield Finding("D09", Severity.WARNING, x.name, f"settings that C Sentinels do not have differ between {listed}")


def _options_hash(x: Examination, endpoint: Endpoint) -> str | None:
    for master in x.own[endpoint].get("masters") or ():
        if master.get("name") == x.name:
            return str(master.get("options_hash"))
    return None


def check_timings(x: Examination) -> Iterator[Finding]:
    """The periods fit together, and the time of a round trip."""
    down_after = x.report.master.number("down-after-milliseconds")
    timeout = x.report.master.number("failover-timeout")
    figures: dict[str, int | float | str] = {"down_after_ms": down_after, "failover_timeout_ms": timeout}
    mixed = x.has_c and any(each.identity is not None and not each.identity.is_c for each in x.members)
    if mixed and down_after < 1500:
        text = f"down-after is {down_after} ms; C Sentinels send PING once a second, so a mixed group needs 1500"
        yield Finding(
            "D12",
            Severity.WARNING,
            x.name,
            text,
            f"txsentinel set {x.name} down-after-milliseconds 1500 --fleet",
            figures,
        )
    if timeout < 3 * down_after:
        text = f"failover-timeout is {timeout} ms, less than three times down-after ({down_after} ms)"
        fix = f"txsentinel set {x.name} failover-timeout {10 * down_after} --fleet"
        yield Finding("D12", Severity.WARNING, x.name, text, fix, figures)
    for server in x.servers.values():
        if server.ping_ms is not None and down_after < 3 * server.ping_ms:
            yield Finding(
                "D12",
                Severity.WARNING,
                str(server.endpoint),
                f"a PING from here took {server.ping_ms:.0f} ms, and down-after is {down_after} ms",
                f"txsentinel set {x.name} down-after-milliseconds {int(10 * server.ping_ms)} --fleet",
                {"ping_ms": round(server.ping_ms, 1), "down_after_ms": down_after},
            )


def check_holds(x: Examination) -> Iterator[Finding]:
    """What keeps instances from acting on purpose."""
    for each in x.replicas:
        if each.priority == 0:
            text = "it has priority 0 and is never promoted"
            yield Finding("D19", Severity.NOTE, each.name, text, "CONFIG SET replica-priority 100")
    for endpoint, own in x.own.items():
        for master in own.get("masters") or ():
            if master.get("name") == x.name and master.get("verdict") == "paused":
                yield Finding("D19", Severity.NOTE, str(endpoint), "failovers are paused")


def check_hosts(x: Examination) -> Iterator[Finding]:
    """Sentinels are on hosts of their own."""
    voters = [voter for voter in x.situation.voters if not voter.is_ghost]
    counts = Counter(voter.endpoint.host for voter in voters)
    for host, count in counts.items():
        if count > 1:
            text = f"{count} of {len(voters)} Sentinels are on this host and end with it"
            yield Finding("D20", Severity.WARNING, host, text, None, {"sentinels": count, "known": len(voters)})
    beside = counts.get(x.report.endpoint.host, 0)
    if len(voters) > 1 and 2 * beside > len(voters) and beside > 1:
        text = f"{beside} of {len(voters)} Sentinels end with the host of the master, and nobody fails over"
        yield Finding("D20", Severity.WARNING, x.report.endpoint.host, text, None, {"sentinels": beside})
