"""All checks in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from txsentinel.model.doctor import Finding, Severity
from txsentinel.remote.doctor.examination import Examination
from txsentinel.remote.doctor.group_checks import (
    check_addresses,
    check_arithmetic,
    check_drift,
    check_holds,
    check_hosts,
    check_survival,
    check_timings,
)
from txsentinel.remote.doctor.link_checks import (
    check_certificates,
    check_clocks,
    check_logins,
    check_reachability,
    check_resources,
)
from txsentinel.remote.doctor.server_checks import (
    check_backlog,
    check_candidates,
    check_chains,
    check_identities,
    check_isolation,
    check_lineage,
    check_persistence,
    check_rights,
)

CHECKS: Final[dict[str, Callable[[Examination], Iterator[Finding]]]] = {
    "D01": check_addresses,
    "D02": check_arithmetic,
    "D03": check_survival,
    "D04": check_candidates,
    "D05": check_rights,
    "D06": check_reachability,
    "D07": check_logins,
    "D08": check_clocks,
    "D09": check_drift,
    "D10": check_identities,
    "D11": check_lineage,
    "D12": check_timings,
    "D13": check_isolation,
    "D14": check_backlog,
    "D15": check_persistence,
    "D16": check_chains,
    "D17": check_resources,
    "D18": check_certificates,
    "D19": check_holds,
    "D20": check_hosts,
}

_ORDER: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def findings(examination: Examination) -> tuple[Finding, ...]:
    """Return what all checks find, errors first."""
    found = [each for check in CHECKS.values() for each in check(examination)]
    return tuple(sorted(found, key=lambda each: (_ORDER[each.severity], each.check)))
