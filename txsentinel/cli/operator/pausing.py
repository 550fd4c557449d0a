"""``txsentinel pause``: no failovers of a master for a while, also by C Sentinels."""

from __future__ import annotations

import signal
import sys
from datetime import datetime, timezone
from threading import Event
from time import monotonic, time
from types import FrameType
from typing import Final

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.pauses import our_sentinels, pause_ours
from txsentinel.cli.operator.statuses import NOT_GUARANTEED, OK, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.visible import plural, visible
from txsentinel.remote.pauses import ALL_MASTERS
from txsentinel.remote.vote_lease import Holding, VoteLease

MAX_MS: Final = 24 * 3_600_000
"""The longest pause: one that is forgotten must end."""


def wall_time(seconds: float) -> str:
    """Return a time of the wall clock, so many seconds from now."""
    return datetime.fromtimestamp(time() + seconds, timezone.utc).strftime("%H:%M:%SZ")


def holding_words(holding: Holding) -> str:
    """Return in one sentence who is held, and who is not."""
    now = monotonic()
    held = [each for each in holding.leases if each.until is not None]
    until = "" if holding.until is None else f" until {wall_time(holding.until - now)}"
    words = f"{plural(len(held), 'C Sentinel')} held{until}"
    if holding.free:
        reasons = {each.sentinel: each.problem for each in holding.leases if each.problem is not None}
        listed = ", ".join(
            f"{each} ({reasons[each]})" if each in reasons else str(each) if each.port else "an unknown one"
            for each in holding.free
        )
        words += f"; not held: {listed}"
    return words


@click.command("pause")
@click.argument("master")
@click.option("--for", "period", type=milliseconds, required=True, help="How long, such as 30m; at most 24h.")
@click.option("--reason", required=True, help="Shown with the pause.")
@click.option("--scope", type=click.Choice(["failover", "hands-off"]), default="failover", show_default=True)
@click.option("--best-effort", is_flag=True, help="Go on if some Sentinels cannot be held.")
@common
def pause_verb(access: FleetAccess, master: str, period: int, reason: str, scope: str, best_effort: bool) -> int:
    """
    Pause automatic failovers of MASTER, or of all masters for '*'.

    If a txsentinel is among the Sentinels, it pauses the others of its kind, keeps C Sentinels from failing over, and
    continues until the end of the pause, or until 'txsentinel resume'. With the scope hands-off no server is
    reconfigured either.

    C Sentinels alone are kept from it as long as this program runs: they give their votes to a candidate that does not
    exist, which delays their own failovers by twice the failover-timeout; the votes are renewed, at once after one of
    them was restarted. If the program ends or
    is killed, failovers are possible again after that time at the latest. SENTINEL FAILOVER is not prevented. Status 7
    if a failover is possible nevertheless.
    """
    if not 0 < period <= MAX_MS:
        raise VerbFailed("--for must be at most 24h", USAGE)
    ours = our_sentinels(access, master)
    if ours:
        return pause_ours(access, ours, master, period, reason, scope, best_effort=best_effort)
    if master == ALL_MASTERS or scope != "failover":
        raise VerbFailed("C Sentinels alone can be paused for one master, and with the scope failover only", USAGE)
    agreement = known_master(access.read([master]), master)
    for each in agreement.naming:
        if "failover_in_progress" in each.masters[master].master.flags:
            raise VerbFailed(f"{each.endpoint} has a failover in progress, which cannot be stopped", NOT_GUARANTEED)
    lease = VoteLease(agreement, access.settings)
    possible = lease.possible
    if not possible.guaranteed and not best_effort:
        raise VerbFailed(
            f"a failover of {master} would still be possible, so nothing was done; --best-effort holds the others",
            NOT_GUARANTEED,
            [f"not held: {each if each.port else 'a Sentinel without a known address'}" for each in possible.free],
        )
    if not possible.leases:
        raise VerbFailed("there is no C Sentinel that could be held", NOT_GUARANTEED)
    ended = Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return hold(lease, master, period / 1000, reason, ended)
    finally:
        lease.close()
        for number, handler in former.items():
            signal.signal(number, handler)


def hold(lease: VoteLease, name: str, seconds: float, reason: str, ended: Event) -> int:
    """Renew the votes until the time is over or the event is set; return the exit status."""
    deadline = monotonic() + seconds
    sys.stdout.write(f"{visible(name)} paused until {wall_time(seconds)}: {visible(reason)}\n")
    guaranteed = True
    holding: Holding | None = None
    while (left := deadline - monotonic()) > 0 and not ended.is_set():
        holding = lease.renew()
        guaranteed = guaranteed and holding.guaranteed
        state = "GUARANTEED" if holding.guaranteed else "NOT GUARANTEED"
        sys.stdout.write(f"{wall_time(0)}  {state}: {visible(holding_words(holding))}\n")
        sys.stdout.flush()
        renewal = monotonic() + min(left, lease.renewal_seconds)
        while (wait := renewal - monotonic()) > 0 and not ended.wait(min(wait, lease.check_seconds)):
            if lease.changed():
                break
    until = None if holding is None else holding.until
    residue = 0.0 if until is None else max(until - monotonic(), 0)
    sys.stdout.write(f"ended; C Sentinels may start a failover from {wall_time(residue)} on at the latest\n")
    return OK if guaranteed else NOT_GUARANTEED
