"""
How a switchover holds the writes of the old master until a chosen replica has all of them.

Two methods: the servers hand over their roles by themselves (``handover``), or this Sentinel holds the writes, waits
for the replica and promotes it (the fence). A variant of the latter rejects the writes (``write_rejection``).

Nothing is held for longer than the operator permits, and a fence is shorter than ``down-after-milliseconds``: a
Sentinel whose PUBLISH is held gets no answers on that connection and would consider the master down. So if this
Sentinel dies, writes go on at the old master before another one fails it over.

Just before the promotion the hold is extended to ``FINAL_HOLD``. If this Sentinel dies after it, or loses the old
master, another Sentinel either makes the old master a replica of the new one or the replica a replica again, depending
on whether the new address was published. Both happen four hello periods after a role was seen, and until then the old
master must not accept writes that the other server would not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txsentinel.core.effects import DemoteHeld, HoldWrites
from txsentinel.core.fan_out import FanOut, PeerAnswer
from txsentinel.core.instances import Failover, InstanceLink, Master, Replica, Server
from txsentinel.core.probing import Probing
from txsentinel.core.selection import unfit_because
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover_state import Operation, SwitchEvidence, WriteHold
from txsentinel.core.write_rejection import REJECTING, WriteRejections
from txsentinel.model.history import JournalKind
from txsentinel.model.operations import Precondition, SwitchoverMethod
from txsentinel.model.snapshots import Endpoint
from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport, parse_info
from txsentinel.wire.resp import data

MAX_FENCE: Final[Millis] = 10_000
"""Longest timeout of the pause of a fence."""

POLL_INTERVAL: Final[Millis] = 4
"""INFO interval of the replica while writes are held and it lacks some."""

FINAL_HOLD: Final[Millis] = 10_000
"""Timeout of the pause from the promotion on; longer than four hello periods."""

MIN_FENCE: Final[Millis] = 400
"""Shortest timeout with which a fence is attempted: half of it must suffice to promote the replica."""

SCRIPTS_REJECTED: Final = 7
"""The first major version that rejects the writes of scripts, too."""


def fence_period(down_after: Millis) -> Millis:
    """Return the timeout of the pause: four fifths of ``down-after-milliseconds``, at most ``MAX_FENCE``."""
    return min(MAX_FENCE, down_after * 4 // 5)


def hold_limit(max_pause: Millis, down_after: Millis) -> Millis:
    """Return how long writes may be held before the promotion: half of the pause remains for what follows."""
    return min(max_pause, fence_period(down_after) // 2)


class WriteHolds:
    """Holds the writes of old masters for switchovers, and releases them."""

    def __init__(self, state: SentinelState, probing: Probing, fan_out: FanOut, rejections: WriteRejections) -> None:
        self.rejections = rejections
        self._state = state
        self._probing = probing
        self._fan_out = fan_out

    def problem(self, master: Master, failover: Failover, now: Millis) -> Precondition | None:
        """Return why the switchover must be aborted before the promotion is ordered; ``None`` if it may go on."""
        operation, promoted = failover.operation, failover.promoted
        assert operation is not None and operation.plan is not None
        order, hold = operation.order, operation.hold
        if now > operation.requested_at + order.timeout:
            waited = now - operation.requested_at
            return Precondition("timeout", f"it was not done within {order.timeout} ms", None, waited, order.timeout)
        if promoted is not None:
            reason = unfit_because(promoted, master, self._state.timings, now)
            if reason is not None:
                return Precondition("candidate_unfit", reason.text, promoted.name, reason.measured, reason.limit)
        if hold is None:
            return None
        if now > hold.limit:
            held, limit = now - hold.ordered_at, hold.limit - hold.ordered_at
            behind = "the master has not answered"
            if hold.confirmed and promoted is not None:
                behind = f"{promoted.name} lacks {max(hold.offset - promoted.repl_offset, 0)} bytes"
            return Precondition("max_pause", f"writes were held for {held} ms and {behind}", None, held, limit)
        report = None if promoted is None else promoted.data_set
        if hold.confirmed and report is not None and report.replid != hold.replid:
            assert promoted is not None
            text = f"its replication ID is {report.replid}, that of the master {hold.replid}"
            return Precondition("other_history", text, promoted.name)
        return None

    def report_hold(self, master: Master, operation: Operation, period: Millis, now: Millis) -> None:
        """
        Report to the other Sentinels of our kind that the writes of the old master are held for at most ``period``.

        Then none of them has its PUBLISH held there, and each makes the old master a replica soon after it has received
        the new address, should this Sentinel not do so.
        """
        assert operation.plan is not None
        old = operation.plan.old
        words = [b"TXSENTINEL", b"HOLDING", data(master.name), data(old.host), b"%d" % old.port, b"%d" % period]
        self._fan_out.send(self._fan_out.peers(master.name), words, now, _ignore)

    def next_due(self, failover: Failover) -> Millis:
        """Return when :meth:`problem` may change by the passing of time."""
        operation = failover.operation
        assert operation is not None
        due = operation.requested_at + operation.order.timeout + 1
        hold, promoted = operation.hold, failover.promoted
        if hold is None:
            return due
        if hold.confirmed and promoted is not None and promoted.info_sent_at is not None:
            due = min(due, promoted.info_sent_at + POLL_INTERVAL)
        return min(due, hold.limit + 1)

    def may_promote(self, master: Master, failover: Failover, now: Millis) -> bool:
        """Hold the writes by a fence, if they are not; return whether the replica has everything, as of its INFO."""
        operation, promoted = failover.operation, failover.promoted
        assert operation is not None and promoted is not None
        hold = operation.hold
        if hold is None:
            if failover.rejects:
                self._reject(master, operation, now)
            elif master.link.commands_up and master.hello_sent_at is None:
                # A PUBLISH without an answer may be held by a pause; the order would wait behind it.
                period = fence_period(master.options.down_after)
                limit = hold_limit(operation.order.max_pause, master.options.down_after)
                operation.hold = WriteHold(now, now + period, now + limit)
                failover.handover_ordered = True
                self._state.emit(HoldWrites(master.link, period), probe=True)
                self.report_hold(master, operation, FINAL_HOLD, now)
            return False
        if not hold.confirmed:
            return False
        if promoted.repl_offset < hold.offset:
            if promoted.info_sent_at is None or now - promoted.info_sent_at >= POLL_INTERVAL:
                self._probing.request_info(promoted, now)
            return False
        if hold.extended_at is None:
            operation.step(now, "caught_up", f"{promoted.name} has all of them")
            hold.extended_at = now
            if not hold.extended:
                self._state.emit(HoldWrites(master.link, FINAL_HOLD), probe=True)
        return hold.extended

    def _reject(self, master: Master, operation: Operation, now: Millis) -> None:
        """Have the master reject writes, once the values to restore are recorded."""
        if not master.link.commands_up:
            return
        max_pause = operation.order.max_pause
        rejection = self.rejections.prepare(master, operation, max_pause + FINAL_HOLD, now)
        former, sent_at = rejection.former, rejection.sent_at
        durable = self._state.durable_generation >= rejection.generation
        if former is None or sent_at is None or not (rejection.stored and durable):
            return
        # It needs no extension, as the server does not end it by itself.
        operation.hold = WriteHold(now, sent_at + max_pause + FINAL_HOLD, now + max_pause, extended=True)
        self.rejections.order(master, former)
        self.report_hold(master, operation, FINAL_HOLD, now)

    def release(self, master: Master, failover: Failover, now: Millis) -> None:
        """Accept writes again after a switchover was aborted that rejects them; pauses are ended by ``handover``."""
        if failover.rejects:
            self.rejections.release(master, now)

    def held(self, link: InstanceLink, info: bytes, now: Millis) -> None:
        """Handle that the server of ``link`` holds writes; ``info`` is its INFO of that moment."""
        for master in link.instances:
            failover = master.failover if isinstance(master, Master) else None
            operation = None if failover is None else failover.operation
            if failover is None or operation is None or operation.hold is None:
                continue
            hold, report = operation.hold, parse_info(info)
            if report.data_set is None or report.role != "master":
                continue
            if hold.confirmed:
                self._extended(operation, hold, report.data_set, now)
                continue
            hold.confirmed, hold.replid, hold.offset = True, report.data_set.replid, report.data_set.offset
            text = f"writes held at offset {hold.offset}, replication ID {hold.replid}"
            operation.step(now, "writes_held", text)
            data = (("offset", hold.offset), ("replid", hold.replid))
            code = None if operation.plan is None else operation.plan.method.value
            kind, place, epoch = JournalKind.WRITES_HELD, master.address.joined(), failover.epoch
            self._state.journal.write(kind, master.name, now, epoch=epoch, code=code, subject=place, data=data)
            if failover.promoted is not None:
                self._probing.request_info(failover.promoted, now)

    @staticmethod
    def _extended(operation: Operation, hold: WriteHold, report: DataSetReport, now: Millis) -> None:
        """
        Handle that the hold was extended.

        The offset is the same as before, except for PINGs to the replicas, unless the hold had ended before: then the
        replica has to receive what was written meanwhile.
        """
        if hold.extended_at is None or hold.extended or report.replid != hold.replid:
            return
        hold.extended, hold.expires_at = True, hold.extended_at + FINAL_HOLD
        hold.offset = report.offset
        operation.step(now, "hold_extended", f"the hold is extended to {FINAL_HOLD} ms, at offset {hold.offset}")

    def expired(self, failover: Failover, now: Millis) -> bool:
        """Whether a fence may have ended, so that the old master may have accepted writes since."""
        hold = None if failover.operation is None else failover.operation.hold
        return failover.fences and hold is not None and now >= hold.expires_at

    def promoted(self, master: Master, failover: Failover, replica: Replica, now: Millis) -> None:
        """Record the evidence of the moment in which the promotion was seen."""
        operation = failover.operation
        assert operation is not None and operation.plan is not None
        hold, report, plan = operation.hold, replica.data_set, operation.plan
        by_hostname = self._state.options.announce_hostnames
        evidence = operation.evidence = SwitchEvidence(
            plan.method,
            Endpoint(master.address.announced(by_hostname), master.address.port),
            Endpoint(replica.address.announced(by_hostname), replica.address.port),
            now,
            failover.epoch,
            now if hold is None else hold.ordered_at,
            now if hold is None else hold.expires_at,
            "" if hold is None else hold.replid,
            0 if hold is None else hold.offset,
            None if report is None else report.replid2,
            None if report is None or report.replid2 is None else report.second_offset - 1,
            operation.syncs_before,
            has_gaps=failover.rejects and (master.major_version or 0) < SCRIPTS_REJECTED,
        )
        fork = "unknown" if evidence.fork_offset is None else str(evidence.fork_offset)
        operation.step(now, "promoted", f"{replica.name} is master; its history forked at {fork}")
        if failover.fences:
            master.link.demote_to = (evidence.new.host, evidence.new.port)

    def demote(self, link: InstanceLink) -> None:
        """Make an old master whose writes are held a replica; the order is durable and published before."""
        if link.demote_to is not None and link.commands_up:
            limits = [self.rejections.former(each) for each in link.instances if isinstance(each, Server)]
            former = next((each for each in limits if each is not None), None)
            self._state.emit(DemoteHeld(link, *link.demote_to, former))

    def link_up(self, link: InstanceLink) -> None:
        """Handle a new connection: repeat the order, unless another server is the master now, or soon."""
        if link.demote_to is None:
            return
        by_hostname = self._state.options.announce_hostnames
        for instance in link.instances:
            address = instance.master.published_address
            up = instance.master.sdown_since is None
            if (
                isinstance(instance, Replica)
                and up
                and link.demote_to == (address.announced(by_hostname), address.port)
            ):
                self.demote(link)
                return
        link.demote_to = None

    def demoted(self, operation: Operation, info: bytes, to_write: int | None, now: Millis) -> None:
        """Handle that the old master follows; ``info`` and ``to_write`` are what it was the moment before."""
        evidence, report = operation.evidence, parse_info(info)
        if evidence is None or evidence.offset_final is not None:
            return
        if report.role == "master" and report.data_set is not None and report.data_set.replid == evidence.replid:
            evidence.offset_final, evidence.demoted_at = report.data_set.offset, now
            evidence.released_at = now
            if evidence.method is SwitchoverMethod.REJECT and to_write != REJECTING:
                evidence.has_gaps = True
                operation.step(now, "setting_changed", f"min-replicas-to-write was {to_write}, not {REJECTING}")
            operation.step(now, "demoted", f"{evidence.old} follows; its last offset was {evidence.offset_final}")


def _ignore(answers: Sequence[PeerAnswer]) -> None:
    """Take the answers of the peers, which change nothing."""
