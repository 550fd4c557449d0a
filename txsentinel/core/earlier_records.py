"""Records of failovers that an earlier process made: what is still awaited, and what this process finds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from txsentinel.core.data_comparison import MAX_WAIT, Comparison
from txsentinel.core.failover_records import ENDS, data_loss, resyncs_of
from txsentinel.core.journal import JournalEntry
from txsentinel.model.address import Address, canonical_ip
from txsentinel.model.history import FailoverRecord, JournalKind, LossVerdict, Outcome
from txsentinel.model.snapshots import Endpoint
from txsentinel.model.timings import Millis


def awaited_comparison(record: FailoverRecord, now: Millis, wall_offset: Millis) -> Comparison | None:
    """
    Return what is to be compared once the old master of a failover is back.

    Synchronizations are not counted, as the counters at the time of the promotion are not recorded.

    :param wall_offset: the wall clock minus the monotonic clock, in milliseconds.
    :returns: ``None`` if there was a verdict, there can be none, or the failover is too old.
    """
    old, new, loss = record.from_server, record.to_server, record.loss
    if record.outcome is not Outcome.SWITCHED or new is None or old.replid is None:
        return None
    if loss.verdict is not LossVerdict.UNKNOWN or loss.from_offset is not None:
        return None
    switched = next((each.at for each in record.phases if each.phase == "switched"), None)
    if switched is None or now + wall_offset - switched.unix_ms > MAX_WAIT:
        return None
    return Comparison(
        epoch=record.epoch,
        address=_address(old.address),
        new=_address(new.address),
        run_id=old.run_id,
        replid=old.replid,
        known=old.offset or 0,
        began_at=switched.unix_ms - wall_offset,
        syncs=None,
    )


def amended_record(record: FailoverRecord, entries: Sequence[JournalEntry]) -> FailoverRecord:
    """
    Return the record with what the journal of this process has found out about the failover.

    :param entries: the records of the journal on the master, oldest first.
    """
    place = str(record.from_server.address)
    over = False
    for each in entries:
        over = over or each.kind in ENDS or each.kind is JournalKind.CAMPAIGN
        if each.kind is JournalKind.CLIENTS_CLOSED and each.subject == place and not over:
            if record.clients_closed is None:
                record = replace(record, clients_closed=int(dict(each.data).get("clients") or 0))
        elif each.epoch != record.epoch:
            continue
        elif each.kind is JournalKind.DATA_COMPARED:
            record = replace(record, loss=data_loss(each))
        elif each.kind is JournalKind.RESYNCS:
            record = replace(record, resyncs=resyncs_of(each))
    return record


def _address(place: Endpoint) -> Address:
    return Address(place.host, canonical_ip(place.host) or "", place.port)
