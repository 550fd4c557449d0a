"""``txsentinel doctor``: checks a whole group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import repeat
from txsentinel.cli.operator.restoring import left_changes
from txsentinel.cli.operator.screen import Block, Result, Styled, line, records_of
from txsentinel.cli.operator.statuses import USAGE, VerbFailed
from txsentinel.cli.operator.visible import plural
from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.plain import plain
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.doctor.all_checks import CHECKS, findings
from txsentinel.remote.doctor.examination import Examination
from txsentinel.remote.doctor.gathering import examine, global_drifts

STYLES: Final = {Severity.ERROR: "bad", Severity.WARNING: "warning", Severity.NOTE: "weak"}
STATUSES: Final = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.NOTE: 0}


@click.command("doctor")
@click.argument("master", required=False)
@click.option("--active", is_flag=True, help="Also test rights (adds entries to ACL LOG) and measure round trips.")
@common
def doctor_verb(access: FleetAccess, master: str | None, active: bool) -> int:
    """
    Check the group of MASTER, or all groups, for what breaks a failover now or will surprise.

    It reads the Sentinels and, with --server-user and --server-password-file, the servers. Status 0 if nothing is
    wrong, 1 with warnings, 2 with errors.
    """

    def make() -> Result:
        fleet = access.read(None if master is None else [master])
        if master is not None:
            known_master(fleet, master)
        tilted = [str(each.endpoint) for each in fleet.reachable if each.identity is not None and each.identity.in_tilt]
        if active and tilted:
            raise VerbFailed(f"--active is not possible while {', '.join(tilted)} is in TILT", USAGE)
        own_drifts = global_drifts(fleet.reachable, access.settings)
        examined = [
            examine(agreement_on(fleet, name), access.settings, access.server_settings, own_drifts, active)
            for name in ([master] if master is not None else fleet.names)
        ]
        return doctor_result([(each, (*findings(each), *changed_here(each))) for each in examined])

    return repeat(access, make)


def changed_here(examination: Examination) -> Iterator[Finding]:
    """Return what a killed switchover of this user has left at the servers of a group."""
    servers = {str(each) for each in examination.servers}
    return (each for each in left_changes() if each.subject in servers)


def doctor_result(found: list[tuple[Examination, tuple[Finding, ...]]]) -> Result:
    """Return the findings of all masters; the status is that of the most severe one."""
    blocks: list[Block] = []
    rows: list[tuple[object, ...]] = []
    for examination, problems in found:
        blocks.append(summary(examination, problems))
        for each in problems:
            style = STYLES[each.severity]
            blocks.append(
                line(
                    Styled(f" {each.severity.value.upper():<8}", style),
                    f"{each.check}  ",
                    Styled(each.subject, "strong"),
                    f"  {each.text}",
                    indent=14,
                )
            )
            if each.fix is not None:
                blocks.append(line(f"{'':14}fix: {each.fix}", indent=19))
            rows.append((examination.name, each.check, each.severity.value, each.subject, each.text, each.fix))
    status = max((STATUSES[each.severity] for _, problems in found for each in problems), default=0)
    data = plain([{"master": each.name, "findings": list(problems)} for each, problems in found])
    columns = ("master", "check", "severity", "subject", "text", "fix")
    return Result(data, tuple(blocks), records_of(columns, rows), status)


def summary(examination: Examination, problems: tuple[Finding, ...]) -> Block:
    """Return the first line of a master."""
    counts = [
        plural(sum(each.severity is severity for each in problems), severity.value)
        for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
    ]
    readable = sum(each.report is not None for each in examination.servers.values())
    return line(
        Styled(examination.name, "strong"),
        f"  {', '.join(counts)}   ({len(CHECKS)} checks; {len(examination.reports)} of {examination.agreement.known}"
        f" Sentinels and {readable} of {len(examination.servers)} servers read)",
        indent=2,
    )
