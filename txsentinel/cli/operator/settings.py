"""The verbs for settings: set and diff."""

from __future__ import annotations

from dataclasses import dataclass

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.listing import drift_words
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import repeat
from txsentinel.cli.operator.screen import Grid, Result, Styled, line, records_of
from txsentinel.cli.operator.statuses import DISAGREEMENT, OK, USAGE, VerbFailed
from txsentinel.cli.operator.visible import plural
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement, Drift, agreement_on
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.doctor.gathering import global_drifts
from txsentinel.remote.fleet import in_parallel
from txsentinel.remote.reports import SentinelReport, as_fields


@dataclass(frozen=True)
class AppliedSetting:
    """What one Sentinel answered to ``SENTINEL SET``; ``problem`` is ``None`` if it did it."""

    sentinel: SentinelReport
    before: str | None
    after: str | None
    problem: str | None


def change(
    sentinel: SentinelReport, settings: ConnectionSettings, name: str, option: str, value: str
) -> AppliedSetting:
    """Set an option at one Sentinel and read it back."""
    before = sentinel.masters[name].master.fields.get(option) if name in sentinel.masters else None
    if name not in sentinel.masters:
        return AppliedSetting(sentinel, None, None, sentinel.problem or "it does not monitor it")
    try:
        with RemoteConnection(sentinel.endpoint, settings) as connection:
            connection.call("SENTINEL", "SET", name, option, value)
            after = as_fields(connection.call("SENTINEL", "MASTER", name)).get(option)
    except (ConnectionFailed, ErrorAnswer) as problem:
        return AppliedSetting(sentinel, before, before, str(problem))
    return AppliedSetting(sentinel, before, after, None)


@click.command("set")
@click.argument("master")
@click.argument("option")
@click.argument("value")
@click.option("--fleet", is_flag=True, help="At all Sentinels of the master, not only at those named by --sentinel.")
@common
def set_verb(access: FleetAccess, master: str, option: str, value: str, fleet: bool) -> int:
    """
    Set an OPTION of MASTER by SENTINEL SET, and read it back.

    C Sentinels do not pass settings on, so each one is asked. Status 2 if one of them did not do it.
    """
    if access.watch is not None:
        raise VerbFailed("--watch cannot be used here", USAGE)
    agreement = known_master(access.read([master], details=False), master)
    members = [each for each in agreement.members if fleet or each.endpoint in access.seeds]
    if not members:
        raise VerbFailed("no Sentinel of the master is among those of --sentinel; use --fleet for all", USAGE)
    changes = in_parallel(lambda each: change(each, access.settings, master, option, value), members)
    rows = []
    for each in changes:
        outcome = Styled("done", "good") if each.problem is None else Styled(each.problem, "bad")
        rows.append((str(each.sentinel.endpoint), each.sentinel.kind, each.before or "-", each.after or "-", outcome))
    failed = sum(each.problem is not None for each in changes)
    blocks = [Grid(("SENTINEL", "KIND", "BEFORE", "NOW", "RESULT"), tuple(rows))]
    columns = ("sentinel", "kind", "before", "after", "problem")
    records = [(each.sentinel.endpoint, each.sentinel.kind, each.before, each.after, each.problem) for each in changes]
    result = Result(
        [dict(zip(columns, (None if value is None else str(value) for value in row), strict=True)) for row in records],
        (*blocks, *([line(Styled(f"! {plural(failed, 'Sentinel')} did not do it", "bad"))] if failed else [])),
        records_of(columns, records),
        DISAGREEMENT if failed else OK,
    )
    return repeat(access, lambda: result)


@click.command("diff")
@click.argument("master", required=False)
@common
def diff_verb(access: FleetAccess, master: str | None) -> int:
    """Show the settings that differ between the Sentinels of MASTER, or of all masters. Status 2 if any does."""

    def make() -> Result:
        fleet = access.read(None if master is None else [master], details=False)
        if master is not None:
            known_master(fleet, master)
        agreements = [agreement_on(fleet, name) for name in ([master] if master is not None else fleet.names)]
        return show_drifts(agreements, global_drifts(fleet.reachable, access.settings))

    return repeat(access, make)


def show_drifts(agreements: list[AddressAgreement], own: list[Drift]) -> Result:
    """Return the differences of several masters, and of the Sentinels' own settings."""
    rows: list[tuple[str, str, Endpoint, str]] = []
    blocks = []
    for agreement in agreements:
        for drift in agreement.drifts:
            rows += [(agreement.name, drift.setting, endpoint, value) for endpoint, value in drift.values.items()]
            blocks.append(line(f"{agreement.name}: {drift_words(agreement.name, drift)}", indent=2))
    for drift in own:
        rows += [("", drift.setting, endpoint, value) for endpoint, value in drift.values.items()]
        listed = ", ".join(f"{endpoint} has {value or 'none'}" for endpoint, value in drift.values.items())
        blocks.append(line(f"Sentinels: {drift.setting} differs: {listed}", indent=2))
    if not rows:
        blocks.append(line(f"no setting of {plural(len(agreements), 'master')} differs"))
    columns = ("master", "setting", "sentinel", "value")
    return Result(
        [dict(zip(columns, (str(value) for value in row), strict=True)) for row in rows],
        tuple(blocks),
        records_of(columns, rows),
        DISAGREEMENT if rows else OK,
    )
