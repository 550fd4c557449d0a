"""The address of a master, or why there is none."""

from __future__ import annotations

from typing import Final

from txsentinel.cli.operator.options import FleetAccess
from txsentinel.cli.operator.statuses import NO_AGREEMENT, UNKNOWN, USAGE, VerbFailed
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement, agreement_on
from txsentinel.remote.fleet import FleetReport

MAX_NAMES: Final = 10
"""Masters that are named if one must be chosen."""


def master_named(access: FleetAccess, name: str | None) -> str:
    """
    Return the name of the master that a verb is about: the one that was given, or the only one.

    :raises VerbFailed: if none was given and there is not exactly one.
    """
    if name is not None:
        return name
    names = access.read(details=False).names
    if not names:
        raise VerbFailed("no Sentinel that answers monitors a master", UNKNOWN)
    if len(names) > 1:
        shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        raise VerbFailed(f"there are {len(names)} masters; name one: {shown}", USAGE)
    return names[0]


def known_master(fleet: FleetReport, name: str) -> AddressAgreement:
    """
    Return the answers about a master.

    :raises VerbFailed: if no Sentinel monitors it.
    """
    agreement = agreement_on(fleet, name)
    if agreement.endpoint is None:
        silent = [f"{each.endpoint}: {each.problem}" for each in fleet.sentinels if each.problem is not None]
        also = f"; without an answer: {'; '.join(silent)}" if silent else ""
        raise VerbFailed(f"no Sentinel that answers monitors {name}{also}", UNKNOWN)
    return agreement


def agreed_address(agreement: AddressAgreement) -> Endpoint:
    """
    Return the address on which a majority agrees.

    :raises VerbFailed: if there is none.
    """
    if agreement.endpoint is None or not agreement.agreed:
        found = []
        for each in agreement.members:
            report = each.masters.get(agreement.name)
            found.append(f"{each.endpoint}: {each.problem or (report and report.endpoint) or 'does not monitor it'}")
        raise VerbFailed(
            f"no address of {agreement.name} is agreed by {agreement.majority} of {agreement.known} Sentinels: "
            + "; ".join(found),
            NO_AGREEMENT,
        )
    return agreement.endpoint
