"""Checks of what connects the parts: reachability, logins, clocks, resources, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.doctor.examination import Examination
from txsentinel.remote.reports import InstanceReport, number

MAX_SKEW_MS: Final = 500
"""Difference of two clocks beyond which times in logs mislead."""

MAX_SCRIPTS: Final = 100
"""Scripts in a queue of at most 256; more means that they hang or fail."""

MIN_DESCRIPTORS: Final = 100
"""File descriptors that should be left."""

CERTIFICATE_DAYS: Final = 30


def check_reachability(x: Examination) -> Iterator[Finding]:
    """Every Sentinel reaches every node, and we reach every Sentinel."""
    seen: dict[tuple[str, Endpoint], list[Endpoint]] = {}
    observers: dict[tuple[str, Endpoint], int] = {}
    for sentinel, report in x.reports.items():
        nodes: list[tuple[str, InstanceReport]] = [("master", report.master)]
        nodes += [("replica", each) for each in report.replicas]
        nodes += [("Sentinel", each) for each in report.peers]
        for kind, each in nodes:
            key = (kind, each.endpoint)
            observers[key] = observers.get(key, 0) + 1
            if not each.usable:
                seen.setdefault(key, []).append(sentinel)
    for (kind, endpoint), sentinels in seen.items():
        total = observers[(kind, endpoint)]
        who = "all Sentinels" if len(sentinels) == total else ", ".join(map(str, sentinels))
        yield Finding(
            "D06",
            Severity.WARNING,
            str(endpoint),
            f"the {kind} is not reached by {who}",
            None,
            {"sentinels": len(sentinels), "of": total},
        )
    for sentinel_report in x.members:
        if sentinel_report.problem is not None:
            text = f"the Sentinel does not answer from here: {sentinel_report.problem}"
            yield Finding("D06", Severity.WARNING, str(sentinel_report.endpoint), text)
    for server in x.servers.values():
        if server.problem is not None:
            text = f"it cannot be read from here, so its settings are not checked: {server.problem}"
            yield Finding("D06", Severity.NOTE, str(server.endpoint), text)


def check_logins(x: Examination) -> Iterator[Finding]:
    """Nobody without a password can hold up failovers."""
    for each in x.members:
        if each.endpoint in x.open_sentinels and each.identity is not None and each.identity.is_c:
            yield Finding(
                "D07",
                Severity.WARNING,
                str(each.endpoint),
                "it answers without a login: any client can hold up failovers by requests for votes",
                "requirepass and sentinel sentinel-pass in every sentinel.conf, or a firewall",
            )


def check_clocks(x: Examination) -> Iterator[Finding]:
    """The clocks of the Sentinels are the same."""
    known = [each for each in x.members if each.clock_offset_ms is not None]
    if len(known) < 2:
        return
    ordered = sorted(known, key=lambda each: each.clock_offset_ms or 0.0)
    first, last = ordered[0], ordered[-1]
    skew = (last.clock_offset_ms or 0.0) - (first.clock_offset_ms or 0.0)
    # Each offset is known up to half of the time that the answers took.
    certain = skew - (first.took_ms + last.took_ms) / 2
    if certain > MAX_SKEW_MS:
        yield Finding(
            "D08",
            Severity.WARNING,
            str(last.endpoint),
            f"its clock is {skew / 1000:.1f} s ahead of that of {first.endpoint}",
            "a time service on all hosts",
            {"skew_ms": round(skew)},
        )


def check_resources(x: Examination) -> Iterator[Finding]:
    """State can be saved, and descriptors and scripts are within bounds."""
    for endpoint, own in x.own.items():
        sentinel = own.get("sentinel") or {}
        storage = sentinel.get("storage") or {}
        if storage.get("state") == "failing":
            text = f"it cannot save its state to {storage.get('path')}: {storage.get('error')}; it leads no failover"
            yield Finding("D17", Severity.ERROR, str(endpoint), text)
        left = sentinel.get("available_descriptors")
        if isinstance(left, int) and left < MIN_DESCRIPTORS:
            text = f"only {left} file descriptors are left for clients"
            fix = "LimitNOFILE in its unit, or ulimit -n"
            yield Finding("D17", Severity.ERROR, str(endpoint), text, fix, {"descriptors": left})
        for publisher in sentinel.get("publishers") or ():
            for text in publisher.get("warnings") or ():
                yield Finding("D17", Severity.ERROR, str(endpoint), text)
    for each in x.members:
        fields = {} if each.identity is None else each.identity.server_fields
        queued = number(fields.get("sentinel_scripts_queue_length"))
        if queued > MAX_SCRIPTS:
            text = f"{queued} scripts are queued; they hang or fail"
            yield Finding(
                "D17", Severity.ERROR, str(each.endpoint), text, "SENTINEL PENDING-SCRIPTS", {"queued": queued}
            )
        if fields.get("sentinel_tilt") == "1":
            yield Finding("D17", Severity.ERROR, str(each.endpoint), "it is in TILT and does not act")


def check_certificates(x: Examination) -> Iterator[Finding]:
    """Certificates go on being valid, and name their hosts."""
    if x.now is None:
        return
    for endpoint, certificate in x.certificates.items():
        left = certificate.ends - x.now
        if left < timedelta(days=CERTIFICATE_DAYS):
            ended = left < timedelta()
            text = f"its certificate {'ended' if ended else 'ends'} at {certificate.ends:%Y-%m-%d %H:%M} UTC"
            severity = Severity.ERROR if ended else Severity.WARNING
            yield Finding("D18", severity, str(endpoint), text, None, {"days": left.days})
        if (
            certificate.names
            and endpoint.host not in certificate.names
            and not _by_wildcard(endpoint.host, certificate.names)
        ):
            text = f"its certificate names {', '.join(certificate.names[:5])}, not {endpoint.host}"
            yield Finding("D18", Severity.NOTE, str(endpoint), text)


def _by_wildcard(host: str, names: tuple[str, ...]) -> bool:
    parent = host.partition(".")[2]
    return bool(parent) and f"*.{parent}" in names
