"""``txsentinel restore``: sets back what a switchover from outside has changed and not restored, as it was killed."""

from __future__ import annotations

import os

import click

from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import show
from txsentinel.cli.operator.screen import Block, Result, Styled, line, records_of
from txsentinel.cli.operator.statuses import DISAGREEMENT, OK, UNKNOWN, VerbFailed
from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.plain import plain
from txsentinel.remote.changed_settings import ChangeLog, Restored, default_path, restore_settings

CHECK = "D21"
"""The check of ``doctor`` for settings that were left."""


@click.command("restore")
@common
def restore_verb(access: FleetAccess) -> int:
    """
    Set back what a switchover has changed at servers if it was killed before it could.

    The changes are recorded on the machine and for the user that ran it, in ~/.local/state/txsentinel. Status 0 if
    nothing is left, 2 if a server could not be reached, or another process still uses the setting.
    """
    log = ChangeLog(default_path(os.environ))
    try:
        found = restore_settings(log, access.server_settings)
    except (OSError, ValueError) as error:
        raise VerbFailed(str(error), UNKNOWN) from None
    result = restored_result(found)
    show(result, access.form)
    return result.status


def restored_result(found: list[Restored]) -> Result:
    """Return what became of each change."""
    blocks: list[Block] = [line(Styled(each.text, "good" if each.done else "warning"), indent=2) for each in found]
    if not found:
        blocks.append(line("no setting is recorded as changed"))
    rows = [(each.change.server, each.change.name, each.change.former, each.done, each.text) for each in found]
    columns = ("server", "setting", "former", "restored", "text")
    status = OK if all(each.done for each in found) else DISAGREEMENT
    return Result(plain(found), tuple(blocks), records_of(columns, rows), status)


def left_changes() -> tuple[Finding, ...]:
    """Return a finding for each change that a killed process has left."""
    log = ChangeLog(default_path(os.environ))
    try:
        changes = log.read()
    except (OSError, ValueError) as error:
        return (Finding(CHECK, Severity.WARNING, str(log.path), f"it cannot be read: {error}"),)
    return tuple(
        Finding(CHECK, Severity.WARNING, str(each.server), f"{each}", "txsentinel restore")
        for each in changes
        if not each.in_use
    )
