"""
What an old master has that the new one never received, found out when it is back after a failover.

The new master continues the replication history of the old one up to the fork: ``second_repl_offset`` under the old ID.
The old master reports its own last offset under that ID as long as it has not copied the data of the new master. The
difference is the part of the stream that is lost. These reports are evidence of the same process only: a process that
was restarted does not report the last offset of the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.core.instances import Master, Server
from txsentinel.core.journal import Data, Journal
from txsentinel.core.role import Role
from txsentinel.model.address import Address
from txsentinel.model.history import JournalKind, LossVerdict
from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport

MAX_WAIT: Final[Millis] = 7 * 24 * 3600 * 1000
"""How long after a failover the return of the old master is awaited."""

MAX_COMPARISONS: Final = 4
"""Number of old masters of one group that are awaited."""

RESYNC_DELAY: Final[Millis] = 5_000
"""How long after the verdict the synchronizations of replicas are counted."""

UNDECIDED_DELAY: Final[Millis] = 60_000
"""How long after the promotion they are counted if there is no verdict."""


@dataclass(slots=True)
class Comparison:
    """An old master that is awaited. The offsets are of the history ``replid``."""

    epoch: int
    address: Address
    new: Address
    run_id: str | None
    replid: str
    known: int
    """Its offset in its last INFO before the failover."""

    began_at: Millis
    syncs: tuple[int, int] | None
    """Partial and full synchronizations by the new master before the promotion was seen."""

    fork: int | None = None
    """The last offset that the new master has; ``None`` until it has reported it."""

    offset: int | None = None
    """The latest offset that the old master reported after the failover."""

    is_final: bool = False
    """Whether it reported that as a replica, so that no client can have written since."""

    counted: bool = False
    """Whether the synchronizations were counted before there was a verdict."""

    decided_at: Millis | None = None
    verdict: LossVerdict | None = None


class DataComparisons:
    """Compares the data of old masters with that of their successors; only the journal depends on it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._awaited: dict[str, list[Comparison]] = {}

    @property
    def active(self) -> bool:
        """Whether any old master is awaited."""
        return bool(self._awaited)

    def begin(self, master: str, epoch: int, old: Server, new: Server | None, now: Millis) -> None:
        """Await the return of ``old``, the master until now; ``new`` is its successor."""
        report = old.data_set
        if report is None or new is None:
            return
        replid, known = report.replid, report.offset
        if new.data_set is not None:
            if new.role_reported is Role.MASTER and new.data_set.replid == replid:
                # It follows its successor already, as after a hand-over.
                replid, known = new.data_set.replid2 or replid, 0
            elif old.role_reported is Role.REPLICA and report.replid2 == new.data_set.replid:
                replid, known = new.data_set.replid, 0
        comparison = Comparison(
            epoch, old.address, new.address, old.run_id, replid, known, now, sync_counters(new.info_text)
        )
        awaited = self._awaited.setdefault(master, [])
        awaited.append(comparison)
        del awaited[:-MAX_COMPARISONS]
        self._fork_seen(comparison, new.data_set)

    def resume(self, master: str, comparison: Comparison) -> None:
        """Await an old master that an earlier process has awaited."""
        awaited = self._awaited.setdefault(master, [])
        if all(each.epoch != comparison.epoch for each in awaited):
            awaited.insert(0, comparison)
            del awaited[:-MAX_COMPARISONS]

    def forget(self, master: str) -> None:
        """Discard what is known of a master that is not monitored any more, or is reset."""
        self._awaited.pop(master, None)

    def reported(self, server: Server, role: str | None, now: Millis) -> None:
        """Handle an INFO of ``server`` with its role, recorded before in ``data_set`` and ``run_id``."""
        master = server.master
        awaited = self._awaited.get(master.name)
        if awaited is None:
            return
        for comparison in list(awaited):
            if comparison.new.same(server.address):
                self._fork_seen(comparison, server.data_set)
                self._count(comparison, server, now)
            elif comparison.address.same(server.address) and comparison.verdict is None:
                self._old_master_seen(comparison, server, role)
            if comparison.verdict is None:
                self._judge(comparison, server, now)
            if now - comparison.began_at > MAX_WAIT or (comparison.verdict is not None and comparison.syncs is None):
                awaited.remove(comparison)
        if not awaited:
            del self._awaited[master.name]

    @staticmethod
    def _fork_seen(comparison: Comparison, report: DataSetReport | None) -> None:
        if report is not None and report.replid2 == comparison.replid:
            comparison.fork = report.second_offset - 1

    @staticmethod
    def _old_master_seen(comparison: Comparison, server: Server, role: str | None) -> None:
        report = server.data_set
        if report is not None and report.replid == comparison.replid and server.run_id == comparison.run_id:
            comparison.offset, comparison.is_final = report.offset, role == Role.REPLICA.value

    def _judge(self, comparison: Comparison, server: Server, now: Millis) -> None:
        """Give the verdict if the evidence suffices; ``server`` is the one that has just reported."""
        fork = comparison.fork
        if comparison.is_final and fork is not None and comparison.offset is not None:
            self._decide_by_offset(comparison, server, comparison.offset, fork, now)
            return
        report = server.data_set
        if report is None or report.loading or not comparison.address.same(server.address):
            return
        same_process = server.run_id == comparison.run_id
        if same_process and report.replid == comparison.replid:
            return
        if same_process and report.replid2 == comparison.replid:
            text = "it continued from its own offset, so the new master has all that it had"
            self._decide(comparison, server, LossVerdict.NONE, 0, None, text, now)
            return
        if not same_process and report.replid == comparison.replid and server.role_reported is Role.MASTER:
            return
        known = comparison.known if comparison.offset is None else max(comparison.known, comparison.offset)
        if report.replid == comparison.replid:
            known = max(known, report.offset)
        if not same_process and report.replid2 == comparison.replid and server.role_reported is Role.MASTER:
            known = max(known, report.second_offset - 1)
        if fork is None:
            return
        why = "copied all data of the new master" if same_process else "was restarted"
        if known > fork:
            text = f"it {why}; its last known offset was {known}, the new master continues from {fork}: at least"
            self._decide(comparison, server, LossVerdict.LOST, known - fork, known, f"{text} {known - fork} bytes", now)
        else:
            text = f"it {why} before its last offset was known; the new master continues from {fork}"
            self._decide(comparison, server, LossVerdict.UNKNOWN, None, None, text, now)

    def _decide_by_offset(self, comparison: Comparison, server: Server, offset: int, fork: int, now: Millis) -> None:
        if offset > fork:
            text = f"its last offset is {offset}, the new master continues from {fork}: {offset - fork} bytes"
            self._decide(comparison, server, LossVerdict.LOST, offset - fork, offset, text, now)
        else:
            text = f"its last offset is {offset}, and the new master continues from {fork}"
            self._decide(comparison, server, LossVerdict.NONE, 0, offset, text, now)

    def _decide(
        self,
        comparison: Comparison,
        server: Server,
        verdict: LossVerdict,
        lost: int | None,
        until: int | None,
        text: str,
        now: Millis,
    ) -> None:
        comparison.verdict, comparison.decided_at = verdict, now
        data: Data = (
            ("lost_bytes", lost),
            ("from_offset", comparison.fork),
            ("to_offset", until),
            ("text", text),
        )
        master = server.master.name
        place = comparison.address.joined()
        kind = JournalKind.DATA_COMPARED
        self._journal.write(kind, master, now, epoch=comparison.epoch, subject=place, code=verdict.value, data=data)
        self._journal.ended(master)

    def _count(self, comparison: Comparison, server: Server, now: Millis) -> None:
        """Write how replicas synchronized with the new master, once before the verdict and once after it."""
        if comparison.syncs is None or not isinstance(server, Master):
            return
        if comparison.decided_at is None:
            if comparison.counted or now - comparison.began_at < UNDECIDED_DELAY:
                return
            comparison.counted = True
        elif now - comparison.decided_at < RESYNC_DELAY:
            return
        before, found = comparison.syncs, sync_counters(server.info_text)
        if comparison.decided_at is not None:
            comparison.syncs = None
        if found is None or found[0] < before[0] or found[1] < before[1]:
            # It was restarted meanwhile.
            return
        data: Data = (("partial", found[0] - before[0]), ("full", found[1] - before[1]))
        kind, subject = JournalKind.RESYNCS, server.address.joined()
        self._journal.write(kind, server.master.name, now, epoch=comparison.epoch, subject=subject, data=data)
        self._journal.ended(server.master.name)


def sync_counters(info: bytes | None) -> tuple[int, int] | None:
    """Return how many partial and full synchronizations a server has given, from the text of its INFO."""
    if info is None:
        return None
    full, partial = _counter(info, b"\nsync_full:"), _counter(info, b"\nsync_partial_ok:")
    return None if full < 0 or partial < 0 else (partial, full)


def _counter(info: bytes, name: bytes) -> int:
    """Return the number after ``name``, or −1 without one."""
    at = info.find(name)
    if at < 0:
        return -1
    begin = at + len(name)
    digits = info[begin : begin + 20].split(b"\r", 1)[0].split(b"\n", 1)[0]
    return int(digits) if digits.isdigit() else -1
