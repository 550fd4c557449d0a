"""
Blocking of further automatic failovers of a master within ``failover-block-period`` after the last one.

A master whose servers fail one after the other for one reason, such as a query that kills them, is failed over until
no server is left. With this setting the second failover waits until an operator has acknowledged the first one, or the
period is over. It is off by default, as C Sentinels block nothing. Failovers and switchovers that an operator orders
are neither blocked nor counted, and votes for other Sentinels are given as ever, or their orders would fail.

A Sentinel that adopts the result of another one counts it if the old master was down or disconnected here.
"""

from __future__ import annotations

from collections.abc import Iterable

from txsentinel.core.durable_records import DurableRecord, RecordKey, RecordKind
from txsentinel.core.instances import Master
from txsentinel.core.state import SentinelState
from txsentinel.model.history import JournalKind, failover_group
from txsentinel.model.timings import Millis


def blocked_until(master: Master) -> Millis | None:
    """Return until when no automatic failover of ``master`` begins because of the last one; ``None`` if none is."""
    period, began_at = master.options.guards.failover_block_period, master.block.began_at
    return None if period is None or began_at is None else began_at + period


class FailoverBlocks:
    """Begins, saves and ends blocks."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def failed_over(self, master: Master, epoch: int, now: Millis) -> None:
        """Handle an automatic failover that has succeeded, here or elsewhere."""
        block, period = master.block, master.options.guards.failover_block_period
        if period is not None:
            block.began_at, block.failover_epoch, block.is_recorded = now, epoch, False
            data = (("for_ms", period), ("group", failover_group(master.name, epoch)))
            self._state.journal.write(JournalKind.BLOCKED, master.name, now, epoch=epoch, data=data)

    def record(self, master: Master, now: Millis, wall_now: Millis) -> None:
        """Have a block saved, or its record removed if the setting was changed; called about once a second."""
        block, until = master.block, blocked_until(master)
        if block.began_at is None or until is None or block.is_recorded or until <= now:
            return
        block.is_recorded = True
        wall_offset = wall_now - now
        record = DurableRecord(
            RecordKey(RecordKind.BLOCKED, master.name),
            until + wall_offset,
            block.began_at + wall_offset,
            failover_group(master.name, block.failover_epoch),
            settings=(("epoch", str(block.failover_epoch)),),
        )
        self._state.records.put(record, until)

    def restore(self, master: Master, now: Millis) -> None:
        """Restore the block of before the start from the records."""
        held = self._state.records.get(RecordKey(RecordKind.BLOCKED, master.name))
        if held is not None and held.in_force(now):
            record = held.record
            master.block.began_at = held.until - (record.until_unix - record.requested_unix)
            epoch = record.setting("epoch")
            master.block.failover_epoch = int(epoch) if epoch.isdecimal() else 0
            master.block.is_recorded = True

    def acknowledge(self, masters: Iterable[Master], group: str, now: Millis, by: str) -> bool:
        """
        End the block by the failover of this group ID; return whether there was one.

        :param by: who acknowledged it.
        """
        for master in masters:
            block = master.block
            if block.began_at is None or failover_group(master.name, block.failover_epoch) != group:
                continue
            block.began_at, block.is_recorded = None, False
            key = RecordKey(RecordKind.BLOCKED, master.name)
            if self._state.records.get(key) is not None:
                self._state.records.replace(key, None)
            self._state.touch(master)
            epoch, data = block.failover_epoch, (("by", by),)
            self._state.journal.write(JournalKind.ACKNOWLEDGED, master.name, now, epoch=epoch, data=data)
            self._state.due.schedule(master, now)
            return True
        return False
