"""The verbs that move a master: switchover and failover."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from types import FrameType
from typing import Final, TextIO

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import show
from txsentinel.cli.operator.screen import Block, Result, Styled, line, records_of
from txsentinel.cli.operator.statuses import ABORTED, LOST, OK, UNKNOWN, UNPROVEN, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.visible import plural, size, visible
from txsentinel.model.operations import OperationSnapshot, OperationState
from txsentinel.model.plain import plain
from txsentinel.model.receipt import Receipt, ReceiptVerdict
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.addresses import BadAddress, parse_endpoint
from txsentinel.remote.changed_settings import ChangeLog, default_path, restore_settings
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer, RemoteConnection
from txsentinel.remote.inside_switchover import InsideOrder, InsideSwitchover, OutcomeUnknown, own_leader
from txsentinel.remote.switchover import METHOD, Switchover, SwitchoverLimits, limits_for
from txsentinel.remote.switchover_checks import Plan, choose_leader, plan_switchover
from txsentinel.remote.write_stops import PausedWrites, RejectedWrites, SwitchoverAborted

STATUSES: Final = {ReceiptVerdict.PROVEN: OK, ReceiptVerdict.UNPROVEN: UNPROVEN, ReceiptVerdict.LOST: LOST}

CHECK_BEFORE_SECONDS: Final = 60.0
"""How long before a planned time the conditions are tested for the first time."""

REDIS_PORT: Final = 6379

REJECT: Final = "reject"
"""The method that works on servers of any version, also from outside."""


def plan_words(plan: Plan, rejects: bool = False) -> str:
    """Return the plan in one line."""
    lag = "unknown" if plan.lag_bytes is None else size(plan.lag_bytes)
    return (
        f"{plan.name}: {plan.old} -> {plan.candidate}   method {METHOD}{', rejecting writes' if rejects else ''} "
        f"({plan.version})   lag {lag}   "
        f"agreed by {len(plan.agreement.naming)} of {plan.agreement.known}   rights {plan.rights}"
    )


def parse_time(words: str) -> float:
    """
    Parse a time with a zone (RFC 3339) to seconds since 1970.

    :raises click.BadParameter: if it is none, or has no zone.
    """
    try:
        found = datetime.fromisoformat(words.replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(f"{words!r} is no time; expected one such as 2026-12-24T03:00:00Z") from None
    if found.tzinfo is None:
        raise click.BadParameter(f"{words!r} has no time zone; add Z or an offset such as +01:00")
    return found.timestamp()


def parse_server(words: str) -> Endpoint:
    """
    Parse the address of a server.

    :raises click.BadParameter: if it is none.
    """
    try:
        return parse_endpoint(words, REDIS_PORT)
    except BadAddress as error:
        raise click.BadParameter(str(error)) from None


def checked_plan(access: FleetAccess, name: str, wanted: Endpoint | None, max_lag: int, rejects: bool = False) -> Plan:
    """
    Read the group and both servers, and evaluate all conditions.

    :raises VerbFailed: if one is not met; the text lists all of them.
    """
    agreement = known_master(access.read([name]), name)
    plan = plan_switchover(agreement, wanted, access.server_settings, max_lag, rejects)
    problems = plan if isinstance(plan, tuple) else plan.problems
    if problems or isinstance(plan, tuple):
        raise VerbFailed(f"{name} cannot be switched over now", ABORTED, problems)
    return plan


@contextmanager
def deferred_interrupts(switchover: Switchover) -> Iterator[None]:
    """Ignore interrupts once the failover was ordered: to stop then would leave the writes held, or two masters."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if switchover.can_abort:
            raise KeyboardInterrupt
        sys.stderr.write("the failover was ordered and is being finished\n")

    former = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@click.command("switchover")
@click.argument("master")
@click.option(
    "--method",
    type=click.Choice(["auto", "handover", "fence", REJECT, METHOD]),
    default="auto",
    show_default=True,
    help=f"How writes are held; {METHOD} does it from outside.",
)
@click.option("--comment", default="", help="Kept in the history.")
@click.option("--to", "wanted", type=parse_server, metavar="HOST:PORT", help="The replica to promote.")
@click.option("--at", "planned", type=parse_time, metavar="TIME", help="Do it then; with a zone (RFC 3339).")
@click.option("--cancel", "cancelled", metavar="ID", help="Cancel the scheduled or running switchover with that ID.")
@click.option("--dry-run", is_flag=True, help="Only evaluate the conditions.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--max-pause", type=milliseconds, default="2s", show_default=True, help="Abort if writes wait longer.")
@click.option("--max-lag", type=int, default=1 << 20, show_default=True, metavar="BYTES")
@click.option("--receipt", "receipt_file", type=click.File("w"), metavar="FILE", help="Write the receipt as JSON.")
@common
def switchover_verb(
    access: FleetAccess,
    master: str,
    wanted: Endpoint | None,
    planned: float | None,
    cancelled: str | None,
    dry_run: bool,
    yes: bool,
    max_pause: int,
    max_lag: int,
    receipt_file: TextIO | None,
    method: str,
    comment: str,
) -> int:
    """
    Move MASTER to a replica without losing an acknowledged write, and print a receipt that proves it.

    In a group of txsentinels one of them does it; then no connection to the servers is needed. In other groups it is
    done from here, and both servers must be reachable. They need Redis 6.2 or Valkey. Status 0 proven, 4 done but
    unproven, 5 aborted, 6 acknowledged writes lost.

    With --at, txsentinels keep the order themselves, also over restarts, and this ends at once with status 0; in other
    groups it waits here until then.
    """
    out = sys.stderr if access.form != "table" else sys.stdout
    if method != METHOD:
        leader = own_leader(known_master(access.read([master]), master))
        if leader is not None:
            at = None if planned is None else int(planned * 1000)
            order = InsideOrder(master, wanted, method, max_pause, max_lag, comment, at)
            switchover = InsideSwitchover(leader.endpoint, access.settings)
            if cancelled is not None:
                return cancel(switchover, cancelled, out)
            receipt = inside(switchover, order, out, dry_run, asks=not yes and not dry_run)
            return OK if receipt is None else finish(access, receipt, receipt_file)
        if cancelled is not None:
            raise VerbFailed(f"{master} has too few txsentinels, which alone keep orders", USAGE)
        if method not in ("auto", REJECT):
            raise VerbFailed(
                f"{master} has too few txsentinels for --method {method}; without it, {METHOD} is used", USAGE
            )
    log, rejects = ChangeLog(default_path(os.environ)), method == REJECT
    restore_first(log, access, out)
    plan = checked_plan(access, master, wanted, max_lag, rejects)
    out.write(f"{visible(plan_words(plan, rejects))}\n")
    if dry_run:
        return OK
    if not yes and not confirmed():
        raise VerbFailed("not confirmed", ABORTED)
    if planned is not None:
        out.write("waiting here, as too few txsentinels could keep the order; it is not done if this ends before\n")
        out.flush()
        wait_until(planned - CHECK_BEFORE_SECONDS)
        checked_plan(access, master, wanted, max_lag, rejects)
        wait_until(planned)
        plan = checked_plan(access, master, wanted, max_lag, rejects)

    def progress(after_ms: int | None, text: str) -> None:
        at = "" if after_ms is None else f"{after_ms:,} ms"
        out.write(f"{at:>9}  {visible(text)}\n")
        out.flush()

    down_after = min(each.masters[master].master.number("down-after-milliseconds") for each in plan.agreement.naming)
    limits = SwitchoverLimits(max_pause) if rejects else limits_for(down_after, max_pause)
    stop = RejectedWrites(plan.old, log, plan.scripts_write) if rejects else PausedWrites()
    made = Switchover(plan, access.settings, access.server_settings, limits, progress, log=log, stop=stop)
    try:
        with deferred_interrupts(made):
            receipt = made.run()
    except SwitchoverAborted as aborted:
        raise VerbFailed(f"aborted: {aborted}", ABORTED) from None
    return finish(access, receipt, receipt_file)


def restore_first(log: ChangeLog, access: FleetAccess, out: TextIO) -> None:
    """Restore the settings that an earlier switchover has left, as it was killed."""
    try:
        found = restore_settings(log, access.server_settings)
    except (OSError, ValueError) as error:
        out.write(f"{visible(str(error))}\n")
        return
    out.writelines(f"{visible(each.text)}\n" for each in found)


def finish(access: FleetAccess, receipt: Receipt, receipt_file: TextIO | None) -> int:
    """Print a receipt, write it to the file, and return the exit status."""
    if receipt_file is not None:
        json.dump(plain(receipt), receipt_file, indent=2)
        receipt_file.write("\n")
    show(receipt_result(receipt), access.form)
    return STATUSES[receipt.verdict]


def inside_words(operation: OperationSnapshot, sentinel: Endpoint) -> str:
    """Return the plan of a switchover by the Sentinels in one line."""
    plan = operation.plan
    if plan is None:
        return f"{operation.master}: no plan   asked {sentinel}"
    return (
        f"{operation.master}: {plan.old} -> {plan.candidate}   method {plan.method.value} ({plan.why})   "
        f"lag {size(plan.lag_bytes)}   votes {plan.votes_reachable} of {plan.votes_needed} needed   by {sentinel}"
    )


def reasons_of(operation: OperationSnapshot) -> tuple[str, ...]:
    """Return the conditions that are not met as sentences."""
    return tuple(
        f"{each.code}: " + (f"{each.subject}: " if each.subject else "") + each.text for each in operation.reasons
    )


def inside(
    switchover: InsideSwitchover,
    order: InsideOrder,
    out: TextIO,
    dry_run: bool,
    asks: bool,
) -> Receipt | None:
    """
    Have the Sentinels switch over, or schedule it; return the receipt, ``None`` after a dry run or if it is scheduled.

    :raises VerbFailed: if a condition is not met, or the switchover failed.
    """
    try:
        plan = checked_order(switchover, order)
        out.write(f"{visible(inside_words(plan, switchover.sentinel))}\n")
        if dry_run:
            return None
        if asks and not confirmed():
            raise VerbFailed("not confirmed", ABORTED)
        begun = switchover.order(order)
        if begun.state is OperationState.SCHEDULED:
            out.write(f"{scheduled_words(begun)}\n")
            return None
        operation = followed(switchover, begun, out)
    except (ConnectionFailed, ErrorAnswer) as problem:
        raise VerbFailed(f"{switchover.sentinel}: {problem}", ABORTED) from None
    except OutcomeUnknown as problem:
        history = "txsentinel history has the outcome"
        raise VerbFailed(f"the outcome is not known: {problem}", UNPROVEN, (history,)) from None
    if operation.receipt is None and operation.state is OperationState.DONE:
        text = "it was done" if operation.problem is None else operation.problem.text
        raise VerbFailed(f"done, but not proven: {text}", UNPROVEN)
    if operation.receipt is None:
        text = "it failed" if operation.problem is None else operation.problem.text
        raise VerbFailed(f"aborted: {text}", ABORTED, reasons_of(operation))
    return operation.receipt


def scheduled_words(operation: OperationSnapshot) -> str:
    """Return when a switchover will be done, and how it can be cancelled."""
    name, number = visible(operation.master), visible(operation.operation_id)
    text = f"{name}: scheduled for {operation.scheduled_at} as {number}; its conditions are evaluated then"
    return f"{text}\ncancel it with: txsentinel switchover {name} --cancel {number}"


def cancel(switchover: InsideSwitchover, number: str, out: TextIO) -> int:
    """
    Cancel an operation, and return the exit status.

    :raises VerbFailed: if there is none, or it is too late.
    """
    try:
        operation = switchover.cancel(number)
    except (ConnectionFailed, ErrorAnswer) as problem:
        raise VerbFailed(f"{switchover.sentinel}: {problem}", ABORTED) from None
    out.write(f"{visible(operation.master)}: {visible(operation.operation_id)} is {operation.state.value}\n")
    return OK


def checked_order(switchover: InsideSwitchover, order: InsideOrder) -> OperationSnapshot:
    """
    Return the plan of a switchover.

    :raises VerbFailed: if a condition is not met; the text lists all of them.
    """
    plan = switchover.order(order, dry_run=True)
    if plan.reasons:
        raise VerbFailed(f"{order.master} cannot be switched over now", ABORTED, reasons_of(plan))
    return plan


def followed(switchover: InsideSwitchover, operation: OperationSnapshot, out: TextIO) -> OperationSnapshot:
    """Print the steps of an operation until it has ended; an interrupt cancels it, if that is still possible."""
    latest = operation
    try:
        for latest in switchover.follow(operation):
            show_steps(switchover, latest, out)
    except KeyboardInterrupt:
        try:
            return switchover.cancel(operation.operation_id)
        except ErrorAnswer as problem:
            out.write(f"{visible(str(problem))}\n")
            for latest in switchover.follow(operation):
                show_steps(switchover, latest, out)
    return latest


def show_steps(switchover: InsideSwitchover, operation: OperationSnapshot, out: TextIO) -> None:
    """Print the steps that were taken since the last call, with the milliseconds since the order."""
    for step in switchover.new_steps(operation):
        out.write(f"{step.after_ms:>6,} ms  {visible(step.text)}\n")
    out.flush()


def confirmed() -> bool:
    """
    Ask whether to proceed.

    :raises VerbFailed: if nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise VerbFailed("there is no terminal to ask on; add --yes", USAGE)
    return click.confirm("proceed?", err=True)


def wait_until(moment: float) -> None:
    """Sleep until a time of the wall clock."""
    while (remaining := moment - time.time()) > 0:
        time.sleep(min(remaining, 1.0))


def receipt_result(receipt: Receipt) -> Result:
    """Return a receipt as a result."""
    style = {ReceiptVerdict.PROVEN: "good", ReceiptVerdict.UNPROVEN: "warning", ReceiptVerdict.LOST: "bad"}
    meaning = {
        ReceiptVerdict.PROVEN: "no acknowledged write lost",
        ReceiptVerdict.UNPROVEN: "it is not known whether writes were lost",
        ReceiptVerdict.LOST: f"{receipt.lost_bytes or 0:,} bytes of writes lost",
    }
    held = "unknown" if receipt.fence.held_ms is None else f"{receipt.fence.held_ms:,} ms"
    resyncs = "resyncs unknown"
    if receipt.resyncs is not None:
        resyncs = f"{plural(receipt.resyncs.partial, 'partial resync')}, {receipt.resyncs.full} full"
    blocks: list[Block] = [
        line(
            f"receipt {receipt.receipt_id}: ",
            Styled(receipt.verdict.value.upper(), style[receipt.verdict]),
            f", {meaning[receipt.verdict]}; writes held {held}; {resyncs}",
            indent=2,
        ),
        line(f"  {receipt.why}", indent=2),
    ]
    columns = ("receipt", "master", "from", "to", "verdict", "lost_bytes", "held_ms", "partial", "full", "clients")
    row = (
        receipt.receipt_id,
        receipt.master,
        receipt.old.address,
        receipt.new.address,
        receipt.verdict.value,
        receipt.lost_bytes,
        receipt.fence.held_ms,
        receipt.resyncs and receipt.resyncs.partial,
        receipt.resyncs and receipt.resyncs.full,
        receipt.clients_closed,
    )
    return Result(plain(receipt), tuple(blocks), records_of(columns, [row]), STATUSES[receipt.verdict])


@click.command("failover")
@click.argument("master")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def failover_verb(access: FleetAccess, master: str, yes: bool) -> int:
    """
    Order one Sentinel to fail MASTER over (SENTINEL FAILOVER), without protecting writes.

    Writes that the replica has not received are lost; switchover protects them.
    """
    agreement = known_master(access.read([master]), master)
    leader = choose_leader(agreement)
    if leader is None:
        raise VerbFailed("no Sentinel can be ordered to fail over", UNKNOWN)
    sys.stdout.write(f"{visible(master)}: {agreement.endpoint}, ordered from {leader.endpoint}; writes may be lost\n")
    if not yes and not confirmed():
        raise VerbFailed("not confirmed", ABORTED)
    try:
        with RemoteConnection(leader.endpoint, access.settings) as connection:
            connection.call("SENTINEL", "FAILOVER", master)
    except (ConnectionFailed, ErrorAnswer) as problem:
        raise VerbFailed(f"{leader.endpoint}: {problem}", ABORTED) from None
    sys.stdout.write(
        f"ordered at {datetime.now(timezone.utc):%H:%M:%S}; follow it with: txsentinel watch {visible(master)}\n"
    )
    return OK
