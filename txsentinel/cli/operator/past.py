"""``txsentinel history``: the failovers that Sentinels of ours have recorded, merged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import repeat
from txsentinel.cli.operator.screen import Block, Grid, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import OK, UNAVAILABLE, UNKNOWN, USAGE, VerbFailed
from txsentinel.cli.operator.visible import duration
from txsentinel.model.history import FailoverRecord, LossVerdict, Outcome
from txsentinel.model.history_merge import MergedFailover, merge
from txsentinel.model.plain import plain
from txsentinel.model.receipt import Receipt, ReceiptVerdict
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import UnknownForm, decoded, plain_reply
from txsentinel.remote.fleet import FleetReport, in_parallel
from txsentinel.remote.membership import order
from txsentinel.remote.recorded_events import BadRecording, recorded_failovers
from txsentinel.remote.reports import SentinelReport

SHORT_ID = 10
"""Characters of a record ID that are shown in the table and suffice for ``--show``."""

NO_RECORDS = (
    "C Sentinels keep no records of failovers, and no Sentinel of txsentinel answers;"
    " record events from now on with: txsentinel watch --record FILE, for: txsentinel history --from FILE"
)


def read_records(
    access: FleetAccess, sentinels: list[SentinelReport], name: str | None, limit: int
) -> tuple[list[FailoverRecord], list[str]]:
    """Return the records of Sentinels of ours, and why some have not answered."""

    def read(sentinel: SentinelReport) -> list[FailoverRecord] | str:
        try:
            with RemoteConnection(sentinel.endpoint, access.settings) as connection:
                connection.use_resp3()
                found = plain_reply(connection.call("TXSENTINEL", "HISTORY", "*" if name is None else name, limit))
                return [decoded(FailoverRecord, each) for each in found]
        except (ConnectionFailed, ErrorAnswer, UnknownForm) as problem:
            return f"{sentinel.endpoint}: {problem}"

    records: list[FailoverRecord] = []
    problems: list[str] = []
    for answer in in_parallel(read, sentinels):
        if isinstance(answer, str):
            problems.append(answer)
        else:
            records += answer
    return records, problems


@click.command("history")
@click.argument("master", required=False)
@click.argument("acknowledged", required=False, metavar="[ID]")
@click.option("--comment", default="", help="With 'ack ID': kept with the record.")
@click.option("-n", "limit", type=click.IntRange(1, 200), default=10, show_default=True, help="The latest ones.")
@click.option("--show", "record_id", metavar="ID", help="All about one failover; the beginning of its ID suffices.")
@click.option(
    "--from",
    "recording",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    metavar="FILE",
    help="Use the events that 'txsentinel watch --record FILE' has written; no Sentinel is asked.",
)
@common
def history_verb(
    access: FleetAccess,
    master: str | None,
    acknowledged: str | None,
    comment: str,
    limit: int,
    record_id: str | None,
    recording: TextIO | None,
) -> int:
    """
    List the latest failovers of MASTER, or of all masters, as the Sentinels of txsentinel have recorded them.

    The records of several Sentinels on one failover are merged. C Sentinels keep none. 'history ack ID' records that a
    failover was seen, which ends the block of further ones (failover-block-period).

    With --from the failovers are made from recorded events, of Sentinels of any kind.
    """
    if recording is not None:
        if master == "ack" or acknowledged is not None or comment:
            raise VerbFailed("failovers made from events cannot be acknowledged", USAGE)
        try:
            found = recorded_failovers(recording)
        except BadRecording as problem:
            raise VerbFailed(f"{recording.name}: {problem}", USAGE) from None
        wanted = [each for each in found if master in (None, each.master)]
        return repeat(replace(access, watch=None), lambda: shown_result(wanted, [], limit, record_id))
    if master == "ack" and acknowledged is not None:
        return acknowledge(access, acknowledged, comment)
    if acknowledged is not None or comment:
        raise VerbFailed("the second word and --comment are for: history ack ID --comment TEXT", USAGE)

    def make() -> Result:
        fleet = access.read(None if master is None else [master], details=False)
        if master is not None:
            known_master(fleet, master)
        return history_result(access, fleet, master, limit, record_id)

    return repeat(access, make)


def acknowledge(access: FleetAccess, record_id: str, comment: str) -> int:
    """
    Acknowledge a failover at a Sentinel that has a record of it, which passes it on.

    :raises VerbFailed: if none has one.
    """
    fleet = access.read(details=False)
    ours = [each for each in fleet.reachable if each.identity is not None and not each.identity.is_c]
    if not ours:
        raise VerbFailed(NO_RECORDS, UNAVAILABLE)
    records, problems = read_records(access, ours, None, 200)
    groups = {each.group for each in records if each.record_id.startswith(record_id.upper()) or each.group == record_id}
    if len(groups) > 1:
        raise VerbFailed(f"more than one failover has an ID {record_id}...", UNKNOWN)
    group = groups.pop() if groups else record_id
    for sentinel in ours:
        try:
            order(sentinel, access.settings, 0, "ACK", group, comment)
        except (ConnectionFailed, ErrorAnswer) as problem:
            problems.append(f"{sentinel.endpoint}: {problem}")
            continue
        sys.stdout.write(f"acknowledged at {sentinel.endpoint}, which passes it on to the Sentinels of its kind\n")
        return OK
    raise VerbFailed(f"no Sentinel has a record or a block of the failover {record_id}", UNKNOWN, problems)


def history_result(
    access: FleetAccess, fleet: FleetReport, name: str | None, limit: int, record_id: str | None
) -> Result:
    """
    Return the failovers, or one of them.

    :raises VerbFailed: if no Sentinel keeps records, or none has this one.
    """
    ours = [each for each in fleet.reachable if each.identity is not None and not each.identity.is_c]
    if not ours:
        raise VerbFailed(NO_RECORDS, UNAVAILABLE)
    records, problems = read_records(access, ours, name, 200 if record_id else limit)
    if len(problems) == len(ours):
        raise VerbFailed("no Sentinel has answered", UNAVAILABLE, problems)
    return shown_result(records, problems, limit, record_id)


def shown_result(records: list[FailoverRecord], problems: list[str], limit: int, record_id: str | None) -> Result:
    """
    Return the failovers of records, or one of them.

    :raises VerbFailed: if there is none with this ID.
    """
    merged = merge(records)
    if record_id is not None:
        wanted = record_id.upper()
        found = [each for each in merged if each.record.record_id.startswith(wanted)]
        if len(found) != 1:
            raise VerbFailed(f"{'no' if not found else 'more than one'} failover has an ID {record_id}...", UNKNOWN)
        return Result(plain(found[0]), tuple(_details(found[0])), _records(found), OK)
    shown = merged[:limit]
    blocks: list[Block] = [_table(shown)] if shown else [line("no failover is recorded")]
    blocks += [line(Styled(f"! {each}", "warning")) for each in problems]
    return Result([plain(each) for each in shown], tuple(blocks), _records(shown), OK)


def _records(
    found: list[MergedFailover] | tuple[MergedFailover, ...],
) -> tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]:
    columns = ("id", "at", "master", "kind", "outcome", "from", "to", "epoch", "took_ms", "loss", "lost_bytes")
    return records_of(
        columns,
        [
            (
                each.record.record_id,
                each.at.rfc3339(),
                each.record.master,
                each.record.kind.value,
                each.record.outcome.value,
                each.record.from_server.address,
                each.record.to_server and each.record.to_server.address,
                each.record.epoch,
                took_ms(each.record),
                each.record.loss.verdict.value,
                each.record.loss.lost_bytes,
            )
            for each in found
        ],
    )


def took_ms(record: FailoverRecord) -> int | None:
    """Return the time from the first phase to the durable address or the end; ``None`` without phases."""
    if not record.phases:
        return None
    end = next((each.at for each in record.phases if each.phase in ("durable", "aborted")), record.phases[-1].at)
    return end.unix_ms - record.phases[0].at.unix_ms


def _loss(record: FailoverRecord) -> Words:
    if record.loss.verdict is LossVerdict.LOST:
        return Styled("lost" if record.loss.lost_bytes is None else f"lost {record.loss.lost_bytes:,} B", "bad")
    return Styled("nothing", "good") if record.loss.verdict is LossVerdict.NONE else "unknown"


def _table(found: tuple[MergedFailover, ...]) -> Grid:
    rows: list[tuple[Words, ...]] = []
    for each in found:
        record = each.record
        switched = record.outcome is Outcome.SWITCHED
        took = took_ms(record)
        rows.append(
            (
                record.record_id[:SHORT_ID],
                each.at.rfc3339(),
                record.master,
                record.kind.value,
                record.outcome.value if switched else Styled(record.outcome.value, "bad"),
                str(record.from_server.address),
                "-" if record.to_server is None else str(record.to_server.address),
                "-" if took is None else duration(took),
                _loss(record),
                str(1 + len(each.others)),
            )
        )
    headings = ("ID", "ENDED", "MASTER", "KIND", "OUTCOME", "FROM", "TO", "TOOK", "LOST", "SEEN BY")
    return Grid(headings, tuple(rows), (9, 3, 5))


def _receipt(receipt: Receipt) -> Iterator[Block]:
    """Return the lines of a receipt: the verdict, and the figures that it follows from."""
    style = {ReceiptVerdict.PROVEN: "good", ReceiptVerdict.UNPROVEN: "warning", ReceiptVerdict.LOST: "bad"}
    held = "unknown" if receipt.fence.held_ms is None else f"{receipt.fence.held_ms:,} ms"
    final = "unknown" if receipt.old.offset_final is None else f"{receipt.old.offset_final:,}"
    fork = "unknown" if receipt.new.fork_offset is None else f"{receipt.new.fork_offset:,}"
    yield line(
        "  receipt   ",
        Styled(receipt.verdict.value, style[receipt.verdict]),
        f" by {receipt.method}, writes held {held}: {receipt.why}",
        indent=12,
    )
    yield line(
        f"            replication ID {receipt.old.replid[:8]}, held at {receipt.old.offset_at_fence:,}, "
        f"last offset {final}, fork {fork}",
        indent=12,
    )


def _short(sentinel: str) -> str:
    """Return the beginning of an ID; an address, which stands for it in records made from events, is kept."""
    return sentinel if ":" in sentinel else sentinel[:8]


def _details(found: MergedFailover) -> Iterator[Block]:
    record = found.record
    to = "nothing" if record.to_server is None else str(record.to_server.address)
    yield line(
        Styled(record.master, "strong"),
        f"  {record.from_server.address} -> {to}   {record.kind.value}, {record.outcome.value}, epoch {record.epoch}",
        indent=2,
    )
    yield line(f"  record    {record.record_id}, by {record.observer_role.value} {_short(record.observer)}")
    cause = record.cause if record.failure_class is None else f"{record.cause}, {record.failure_class}"
    yield line(f"  cause     {cause}" + (f", ordered by {record.operator}" if record.operator else ""))
    if record.comment:
        yield line(f"  comment   {record.comment}", indent=12)
    if record.receipt is not None:
        yield from _receipt(record.receipt)
    if record.chosen_because:
        yield line(f"  chosen    {record.chosen_because}", indent=12)
    yield line("  lost      ", _loss(record), f": {record.loss.text}" if record.loss.text else "", indent=12)
    if record.resyncs is not None:
        yield line(f"  resyncs   {record.resyncs.partial} partial, {record.resyncs.full} full")
    for place, phase in enumerate(record.phases):
        took = "" if phase.took_ms is None else f"+{phase.took_ms:,} ms"
        yield line(f"  {'phases' if place == 0 else '':<10}{phase.at.rfc3339()}  {phase.phase:<18} {took:>10}")
    for place, voter in enumerate(record.voters):
        vote = "no vote" if voter.vote is None else f"voted for {voter.vote[:8]} in epoch {voter.epoch}"
        reason = f" ({voter.reason})" if voter.reason else ""
        yield line(
            f"  {'votes' if place == 0 else '':<10}{_short(voter.sentinel_id)} ({voter.kind}) {vote}{reason}", indent=12
        )
    for place, each in enumerate(record.replicas):
        judged = f"rank {each.rank}" if each.unfit is None else f"unfit: {each.unfit_text or each.unfit}"
        text = f"{each.address}  priority {each.priority}, offset {each.offset:,}, {judged}"
        yield line(f"  {'replicas' if place == 0 else '':<10}{text}", indent=12)
    for other in found.others:
        last = other.phases[-1].at.rfc3339() if other.phases else "-"
        yield line(f"  seen by   {other.role.value} {other.observer[:8]}, last phase at {last}")
