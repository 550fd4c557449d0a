"""The verbs about pauses that Sentinels of ours hold: their part of ``pause``, ``resume`` and ``paused``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import repeat, show
from txsentinel.cli.operator.screen import Block, Grid, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import NOT_GUARANTEED, OK, UNKNOWN, USAGE, VerbFailed
from txsentinel.cli.operator.visible import plural
from txsentinel.model.plain import plain
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.decoding import UnknownForm
from txsentinel.remote.membership import order
from txsentinel.remote.pauses import ALL_MASTERS, PauseReport, ResumeReport, pause_of, pauses_of, resume_of
from txsentinel.remote.reports import SentinelReport

T = TypeVar("T")

ORDER_SECONDS: Final = 10.0
"""Timeout of an order, which waits for the other Sentinels."""

NO_OURS: Final = "no txsentinel that answers is among the Sentinels; C Sentinels are held by 'txsentinel pause' itself"


def our_sentinels(access: FleetAccess, name: str) -> list[SentinelReport]:
    """
    Return the Sentinels of ours that answer, of one master or of all for ``*``.

    :raises VerbFailed: if no Sentinel monitors the master.
    """
    fleet = access.read(details=False) if name == ALL_MASTERS else access.read([name])
    members = fleet.sentinels if name == ALL_MASTERS else known_master(fleet, name).members
    return [each for each in members if each.identity is not None and not each.identity.is_c]


def ask_one(
    access: FleetAccess, ours: Sequence[SentinelReport], read: Callable[[object], T], *words: str
) -> tuple[SentinelReport, T]:
    """
    Send an order to the first Sentinel of ours that answers; return it, and its answer as a record that ``read`` makes.

    :raises VerbFailed: if it is refused, or none answers.
    """
    problems = []
    for sentinel in ours:
        try:
            return sentinel, read(order(sentinel, access.settings, ORDER_SECONDS, *words))
        except ErrorAnswer as refusal:
            code, _, reason = str(refusal).partition(" ")
            status = NOT_GUARANTEED if code == "CANNOTGUARANTEE" else USAGE
            raise VerbFailed(f"refused by {sentinel.endpoint}: {reason}", status) from None
        except (ConnectionFailed, UnknownForm) as problem:
            problems.append(f"{sentinel.endpoint}: {problem}")
    raise VerbFailed("no txsentinel answers", UNKNOWN, problems)


def pause_ours(
    access: FleetAccess,
    ours: Sequence[SentinelReport],
    master: str,
    period: int,
    reason: str,
    scope: str,
    *,
    best_effort: bool,
) -> int:
    """
    Pause by an order to one Sentinel of ours, which passes it on and holds the C Sentinels; return the exit status.

    :raises VerbFailed: if it is refused.
    """
    require = "best-effort" if best_effort else "guaranteed"
    words = ("FOR", str(period), "SCOPE", scope, "REASON", reason, "REQUIRE", require)
    asked, found = ask_one(access, ours, pause_of, "PAUSE", master, *words)
    show(pause_result((found,), asked), access.form)
    return OK if found.guaranteed else NOT_GUARANTEED


def pause_result(pauses: Sequence[PauseReport], asked: SentinelReport) -> Result:
    """Return what pauses are in force, and what they mean for each Sentinel."""
    blocks: list[Block] = []
    rows: list[tuple[object, ...]] = []
    for pause in pauses:
        name = "all masters" if pause.master == ALL_MASTERS else pause.master
        scope = "" if pause.scope == "failover" else f" ({pause.scope})"
        reason = f": {pause.reason}" if pause.reason else ""
        words = f" paused{scope} until {pause.until} by {pause.by}{reason}"
        blocks.append(line(Styled(name, "strong"), words, indent=2))
        for master in pause.masters:
            state = Styled("GUARANTEED", "good") if master.guaranteed else Styled("NOT GUARANTEED", "bad")
            free = [each for each in master.sentinels if each.state == "free"]
            held = len(master.sentinels) - len(free) + 1
            text = f"{plural(held, 'Sentinel')} held, {len(free)} free, {master.votes_needed} votes needed"
            why = "" if master.obstacle is None else f"; {master.obstacle}"
            blocks.append(line(f"{master.name} ", state, f"  {text}{why}", indent=2))
            shown: list[tuple[Words, ...]] = [(str(asked.endpoint), "txsentinel", Styled("paused", "good"))]
            for each in master.sentinels:
                detail = each.state if each.until is None else f"leased until {each.until}"
                outcome = Styled(f"free: {each.why}", "warning") if each.state == "free" else Styled(detail, "good")
                shown.append((each.address, each.kind, outcome))
                rows.append((pause.master, master.name, each.address, each.kind, each.state, pause.until, each.why))
            blocks.append(Grid(("SENTINEL", "KIND", "STATE"), tuple(shown), (1,)))
    if not pauses:
        blocks.append(line("no pause is in force"))
    columns = ("pause", "master", "sentinel", "kind", "state", "until", "why")
    status = OK if all(each.guaranteed for each in pauses) else NOT_GUARANTEED
    return Result(plain(tuple(pauses)), tuple(blocks), records_of(columns, rows), status)


@click.command("resume")
@click.argument("master")
@common
def resume_verb(access: FleetAccess, master: str) -> int:
    """
    End the pause of MASTER, or all pauses for '*'.

    A pause that 'txsentinel pause' holds for C Sentinels alone ends with that program. Status 0 ended, 1 none was in
    force, 2 a txsentinel was not reached.
    """
    ours = our_sentinels(access, master)
    if not ours:
        raise VerbFailed(NO_OURS, UNKNOWN)
    asked, found = ask_one(access, ours, resume_of, "RESUME", master)
    result = resume_result(master, found, asked)
    show(result, access.form)
    return result.status


def resume_result(master: str, found: ResumeReport, asked: SentinelReport) -> Result:
    """Return what was ended, and what is left of it."""
    name = "all masters" if master == ALL_MASTERS else master
    ended = f": {plural(found.resumed, 'pause')} ended at {asked.endpoint}"
    blocks: list[Block] = [line(Styled(name, "strong"), ended)]
    if found.residual_until is not None:
        text = f"C Sentinels may start a failover again from {found.residual_until} on at the latest"
        blocks.append(line(text, indent=2))
    rows = [(each.address, each.kind, each.result) for each in found.sentinels]
    missed = [each for each in found.sentinels if each.kind != "c" and each.result != "ok"]
    if missed:
        words = "learns of it as soon as it can be reached"
        blocks += [line(Styled(f"! {each.address} ({each.result}) {words}", "warning"), indent=2) for each in missed]
    status = 1 if not found.resumed else 2 if missed else OK
    return Result(plain(found), tuple(blocks), records_of(("sentinel", "kind", "result"), rows), status)


@click.command("paused")
@click.argument("master", required=False)
@common
def paused_verb(access: FleetAccess, master: str | None) -> int:
    """
    Show pauses in force, of MASTER or of all.

    Status 7 if a failover is possible all the same.
    """

    def make() -> Result:
        ours = our_sentinels(access, master or ALL_MASTERS)
        if not ours:
            raise VerbFailed(NO_OURS, UNKNOWN)
        asked, found = ask_one(access, ours, pauses_of, "PAUSED", *([] if master is None else [master]))
        return pause_result(found, asked)

    return repeat(access, make)
