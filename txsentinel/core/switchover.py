"""
Switchovers: a healthy master is replaced by a chosen replica without losing a write, and a receipt proves it.

Before a switchover, both servers are asked for INFO and for the rights of this Sentinel, and all conditions are
evaluated. Then this Sentinel campaigns as for any other failover: it needs the votes of a majority. After the promotion
it collects the evidence for the receipt until all servers follow, or for ``EVIDENCE_TIMEOUT``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsentinel.core.data_comparison import sync_counters
from txsentinel.core.deadlines import NEVER
from txsentinel.core.effects import CheckRights
from txsentinel.core.errors import CommandError
from txsentinel.core.failover import Failovers
from txsentinel.core.instances import InstanceLink, Master, Replica, Server
from txsentinel.core.operation_records import OperationRecords
from txsentinel.core.preconditions import SwitchoverConditions
from txsentinel.core.probing import Probing
from txsentinel.core.quorum import is_reachable
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.server_rights import CHECKED, RIGHTS_AGE, ServerRights
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover_state import Operation, SwitchEvidence, SwitchoverOrder, judged
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.write_rejection import WriteRejections
from txsentinel.model.history import JournalKind
from txsentinel.model.operations import OperationState, Precondition, SwitchoverMethod
from txsentinel.model.receipt import AddressKnown
from txsentinel.model.snapshots import Endpoint
from txsentinel.model.timings import Millis

CHECK_TIMEOUT: Final[Millis] = 1_000
"""How long the answers of the servers are awaited before the conditions are evaluated without them."""

EVIDENCE_TIMEOUT: Final[Millis] = 15_000
"""How long after the promotion the servers may take to follow, and the Sentinels to confirm the address."""

MAX_HELD_ELSEWHERE: Final[Millis] = 60_000
"""Longest time for which a server is taken to be held by another Sentinel."""

EVIDENCE_INTERVAL: Final[Millis] = 100
"""INFO interval of the servers meanwhile."""


class Switchovers:
    """Executes the operations of ``TXSENTINEL SWITCHOVER``."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        probing: Probing,
        failovers: Failovers,
        tilt: TiltGuard,
        rejections: WriteRejections,
        records: OperationRecords,
    ) -> None:
        self._records = records
        self._state = state
        self._registry = registry
        self._probing = probing
        self._failovers = failovers
        self._conditions = SwitchoverConditions(state, tilt, rejections)

    @property
    def next_due(self) -> Millis:
        """When :meth:`advance` must be called even if nothing arrives."""
        due = NEVER
        for operation in self._state.operations.pending.values():
            evidence = operation.evidence
            if operation.state is OperationState.CHECKING:
                due = min(due, operation.requested_at + CHECK_TIMEOUT)
            elif evidence is not None:
                due = min(due, evidence.asked_at + EVIDENCE_INTERVAL, evidence.promoted_at + EVIDENCE_TIMEOUT)
        return due

    def request(self, order: SwitchoverOrder, now: Millis) -> Operation:
        """
        Begin a switchover, or return the one that was ordered with the same idempotency key.

        :raises CommandError: if no master of that name is monitored, another operation of it has not ended, or the key
            was used for another order.
        """
        operations = self._state.operations
        if order.key is not None:
            former = operations.by_key(order.key, now)
            if former is not None:
                if not _same(former.order, order):
                    raise CommandError("KEYREUSED this idempotency key was used for another order")
                return former
        master = self._registry.master(order.master)
        other = operations.pending.get(order.master)
        if other is not None and not order.dry_run:
            raise CommandError(f"INPROG operation {other.order.operation_id} of this master has not ended")
        operation = Operation(order, now, OperationState.CHECKING)
        if order.dry_run and other is not None:
            # The conditions are evaluated as they are known now; the other operation goes on.
            operations.known[order.operation_id] = operation
            self._decide(master, operation, now)
            return operation
        operation.step(now, "requested", f"requested by {order.by}")
        self.begin(master, operation, now)
        return operation

    def unmet(self, master: Master, operation: Operation, now: Millis) -> list[Precondition]:
        """Return the conditions that are not met, as far as known without asking the servers."""
        return self._conditions.unmet(master, operation, now)

    def begin(self, master: Master, operation: Operation, now: Millis) -> None:
        """Begin an operation: ask the servers for what the conditions depend on."""
        order, operations = operation.order, self._state.operations
        other = operations.pending.get(order.master)
        if other is not None:
            problem = Precondition("operation_pending", f"operation {other.order.operation_id} has not ended")
            operations.end(operation, OperationState.FAILED, now, problem)
            return
        operation.state, operation.requested_at = OperationState.CHECKING, now
        operations.add(operation, now)
        servers: list[Server] = [master]
        candidate = self._conditions.candidate(master, order, now)
        if candidate is not None:
            servers.append(candidate)
        for server in servers:
            self._probing.request_info(server, now)
            self._check_rights(server, now)

    def cancel(self, operation_id: str, by: str, now: Millis) -> Operation:
        """
        Cancel an operation.

        :raises CommandError: if there is no such operation, or it is too late.
        """
        operation = self._state.operations.known.get(operation_id)
        if operation is None:
            raise CommandError("NOSUCHOPERATION no operation with that ID is known here")
        if operation.ended:
            raise CommandError(f"TOOLATE the operation has ended: {operation.state.value}")
        master = self._registry.masters.get(operation.order.master)
        if operation.state is OperationState.RUNNING:
            if master is None or not self._failovers.ends.cancel(master, now, by):
                raise CommandError("TOOLATE the promotion was ordered; the operation is being finished")
            return operation
        problem = Precondition("cancelled", f"it was cancelled by {by}")
        self._state.operations.end(operation, OperationState.CANCELLED, now, problem)
        return operation

    def held_elsewhere(self, name: str, host: str, port: int, period: Millis, now: Millis) -> None:
        """
        Handle that another Sentinel holds the writes of a server for at most ``period``; 0 if it does not any more.

        :raises CommandError: if no master of that name is monitored, or it has no such server.
        """
        master = self._registry.master(name)
        servers: list[Server] = [master, *master.replicas.values()]
        server = next((each for each in servers if self._is_at(each.link, Endpoint(host, port))), None)
        if server is None:
            raise CommandError("ERR No such server of this master")
        link = server.link
        if period > 0:
            link.held_elsewhere_until = now + min(period, MAX_HELD_ELSEWHERE)
            self._state.operations.held_elsewhere[link] = None
        else:
            link.held_elsewhere_until = None
            self._state.operations.held_elsewhere.pop(link, None)

    def expire_holds(self, now: Millis) -> None:
        """End what :meth:`held_elsewhere` began, when its time is over."""
        for link in list(self._state.operations.held_elsewhere):
            if link.held_elsewhere_until is None or now >= link.held_elsewhere_until:
                link.held_elsewhere_until = None
                del self._state.operations.held_elsewhere[link]

    def rights_checked(self, link: InstanceLink, denied: dict[str, str], now: Millis) -> None:
        """Handle the replies to the test of the rights."""
        if link.commands_since is not None:
            link.rights = ServerRights(now, link.commands_since, denied)
        self.advance(now)

    def old_master_demoted(self, link: InstanceLink, info: bytes | None, to_write: int | None, now: Millis) -> None:
        """
        Handle that the old master of a fence has answered the order to follow.

        :param info: its INFO of the moment before; ``None`` if it refused the order.
        :param to_write: its ``min-replicas-to-write`` then, if that was asked for.
        """
        link.demote_to = None
        for operation in list(self._state.operations.pending.values()):
            evidence = operation.evidence
            if info is not None and evidence is not None and self._is_at(link, evidence.old):
                self._failovers.holds.demoted(operation, info, to_write, now)
        self.advance(now)

    def clients_closed(self, link: InstanceLink, clients: int, now: Millis) -> None:
        """Handle that a server disconnected its clients when its role changed."""
        for operation in self._state.operations.pending.values():
            evidence = operation.evidence
            if evidence is not None and evidence.clients_closed is None and self._is_at(link, evidence.old):
                evidence.clients_closed = clients
                if evidence.released_at is None:
                    evidence.released_at = now
                operation.step(now, "clients_closed", f"{evidence.old} closed {clients} clients")

    def advance(self, now: Millis) -> None:
        """Advance all operations as far as possible."""
        for operation in list(self._state.operations.pending.values()):
            master = self._registry.masters.get(operation.order.master)
            if master is None:
                problem = Precondition("unknown_master", "the master is not monitored any more")
                self._state.operations.end(operation, OperationState.FAILED, now, problem)
            elif operation.state is OperationState.CHECKING:
                if now >= operation.requested_at + CHECK_TIMEOUT or self._answered(master, operation, now):
                    self._decide(master, operation, now)
            elif operation.restored_at is not None:
                self._records.finish(master, operation, now)
            elif operation.evidence is not None:
                self._collect(master, operation, operation.evidence, now)
            elif operation.state is OperationState.RUNNING:
                failover = master.failover
                if failover is None or failover.operation is not operation:
                    problem = Precondition("discarded", "the master was reset, or another Sentinel switched it")
                    self._state.operations.end(operation, OperationState.FAILED, now, problem)

    # Conditions

    def _check_rights(self, server: Server, now: Millis) -> None:
        link = server.link
        rights = link.rights
        if not link.commands_up:
            return
        if rights is None or rights.connected_at != link.commands_since or now - rights.tested_at > RIGHTS_AGE:
            link.rights = None
            self._state.emit(CheckRights(link, CHECKED), probe=True)

    def _answered(self, master: Master, operation: Operation, now: Millis) -> bool:
        """Whether both servers have answered INFO and the test of the rights since the request."""
        candidate = self._conditions.candidate(master, operation.order, now)
        servers: list[Server] = [master] if candidate is None else [master, candidate]
        for server in servers:
            refreshed, sent = server.info_refreshed_at, server.info_sent_at
            if refreshed is None or sent is None or sent < operation.requested_at or refreshed < sent:
                if server.link.commands_up:
                    self._probing.request_info(server, now)
                    return False
            if server.link.commands_up and server.link.rights is None:
                return False
        return True

    @staticmethod
    def _silent(master: Master, candidate: Replica | None, operation: Operation, now: Millis) -> Iterator[Precondition]:
        """Yield which of the two servers have not answered INFO since the request."""
        servers: list[tuple[str, Server | None]] = [("master_not_healthy", master), ("candidate_unfit", candidate)]
        for code, server in servers:
            if server is not None and (server.info_refreshed_at or 0) < operation.requested_at:
                waited, place = now - operation.requested_at, server.address.joined()
                text = f"it has not answered INFO for {waited} ms"
                yield Precondition(code, text, place, waited, CHECK_TIMEOUT)

    def _decide(self, master: Master, operation: Operation, now: Millis) -> None:
        """Evaluate the conditions and begin, unless one is not met or it is a dry run."""
        operations = self._state.operations
        candidate = self._conditions.candidate(master, operation.order, now)
        operation.reasons = (
            *(() if operation.order.dry_run else self._silent(master, candidate, operation, now)),
            *self._conditions.unmet(master, operation, now),
        )
        operation.plan = self._conditions.plan(master, operation, now)
        if operation.order.dry_run:
            operations.end(operation, OperationState.DONE, now, None)
            return
        if operation.reasons or operation.plan is None or candidate is None:
            problem = operation.reasons[0] if operation.reasons else None
            operations.end(operation, OperationState.FAILED, now, problem)
            return
        operation.candidate, operation.syncs_before = candidate.name, sync_counters(candidate.info_text)
        operation.state = OperationState.RUNNING
        plan = operation.plan
        text = f"{plan.old} to {plan.candidate} by {plan.method.value} ({plan.why}), {plan.lag_bytes} bytes behind"
        operation.step(now, "checked", text)
        self._records.begun(operation, now)
        self._failovers.switch_over(master, operation, now)
        operations.checked(operation)
        self._state.due.schedule(master, now)

    # Evidence

    def _is_at(self, link: InstanceLink, endpoint: Endpoint) -> bool:
        address = link.address
        return address.port == endpoint.port and endpoint.host in (
            address.announced(self._state.options.announce_hostnames),
            address.ip,
        )

    def _collect(self, master: Master, operation: Operation, evidence: SwitchEvidence, now: Millis) -> None:
        """Collect the evidence, and end the operation when it is complete or not awaited any longer."""
        servers: list[Server] = [master, *master.replicas.values()]
        new = next((each for each in servers if self._is_at(each.link, evidence.new)), None)
        old = next((each for each in servers if self._is_at(each.link, evidence.old)), None)
        if new is not None:
            self._fork_seen(evidence, new)
        if old is not None:
            self._old_seen(operation, evidence, old, new, now)
            if new is master:
                self._demote_again(evidence, master, old, now)
        self._sentinels_seen(master, evidence, now)
        overdue = now >= evidence.promoted_at + EVIDENCE_TIMEOUT
        complete = False
        if new is not None and master.failover is None:
            others = [each for each in servers if each is not new and not each.is_down]
            linked = all(isinstance(each, Replica) and each.master_link_up for each in others)
            if linked and evidence.linked_at is None:
                evidence.linked_at = now
                self._probing.request_info(new, now)
            if evidence.linked_at is not None:
                complete = self._count(evidence, new)
        peers = [peer for peer in master.peers.values() if is_reachable(peer)]
        complete = complete and evidence.offset_final is not None and len(evidence.confirmed) >= len(peers)
        if complete or overdue:
            self._finish(master, operation, evidence, now)
        elif now >= evidence.asked_at + EVIDENCE_INTERVAL:
            evidence.asked_at = now
            for server in servers:
                if server is not new or evidence.linked_at is not None:
                    self._probing.request_info(server, now)

    @staticmethod
    def _fork_seen(evidence: SwitchEvidence, new: Server) -> None:
        report = new.data_set
        if evidence.fork_offset is None and report is not None and report.replid2 is not None:
            evidence.replid2, evidence.fork_offset = report.replid2, report.second_offset - 1

    @staticmethod
    def _old_seen(operation: Operation, evidence: SwitchEvidence, old: Server, new: Server | None, now: Millis) -> None:
        """
        Take the last offset of the old master from its own report, if it follows without having copied anything.

        It either still has the history in which writes were held, or it has continued in that of the new master. If it
        has one of its own, it was a master again.
        """
        report = old.data_set
        if evidence.offset_final is not None or report is None or old.role_reported is not Role.REPLICA:
            return
        refreshed = old.info_refreshed_at
        if refreshed is None or refreshed < evidence.armed_at:
            return
        # While its own FAILOVER runs, it reports to be a replica and may yet become a master again.
        if report.replid == evidence.replid and not old.server_failover:
            evidence.offset_final = report.offset
        elif report.replid2 == evidence.replid and new is not None and _has_history(new, report.replid):
            evidence.offset_final = report.second_offset - 1
        else:
            return
        evidence.demoted_at = now
        operation.step(now, "demoted", f"{evidence.old} follows; its last offset was {evidence.offset_final}")

    def _demote_again(self, evidence: SwitchEvidence, master: Master, old: Server, now: Millis) -> None:
        """
        Order an old master to follow whose own FAILOVER has ended without that, instead of eight seconds later.

        Another Sentinel may have promoted it meanwhile: the new master is down then, or this Sentinel has voted again.
        """
        if evidence.method is not SwitchoverMethod.HANDOVER:
            return
        if master.sdown_since is not None or master.leader_epoch != evidence.epoch:
            return
        sent, refreshed = old.info_sent_at, old.info_refreshed_at
        if old.role_reported is not Role.MASTER or not isinstance(old, Replica) or old.link.demote_to is not None:
            return
        if sent is not None and refreshed is not None and evidence.promoted_at + EVIDENCE_INTERVAL < sent <= refreshed:
            old.link.demote_to = (evidence.new.host, evidence.new.port)
            self._failovers.holds.demote(old.link)

    @staticmethod
    def _sentinels_seen(master: Master, evidence: SwitchEvidence, now: Millis) -> None:
        known = {each.sentinel_id for each in evidence.confirmed}
        for peer in master.peers.values():
            if peer.acknowledged_epoch >= evidence.epoch and peer.name not in known:
                endpoint = Endpoint(peer.address.ip, peer.address.port)
                evidence.confirmed.append(AddressKnown(endpoint, now - evidence.armed_at, peer.name))

    @staticmethod
    def _count(evidence: SwitchEvidence, new: Server) -> bool:
        """Count how the replicas synchronized, as of an INFO after all of them did; return whether that arrived."""
        linked, refreshed, before = evidence.linked_at, new.info_refreshed_at, evidence.syncs_before
        if linked is None or refreshed is None or refreshed < linked or new.info_sent_at is None:
            return False
        if new.info_sent_at < linked:
            return False
        found = sync_counters(new.info_text)
        if found is not None and before is not None and found[0] >= before[0] and found[1] >= before[1]:
            evidence.resyncs = (found[0] - before[0], found[1] - before[1])
        return True

    def _finish(self, master: Master, operation: Operation, evidence: SwitchEvidence, now: Millis) -> None:
        evidence.judgement = found = judged(evidence)
        if evidence.method is not SwitchoverMethod.HANDOVER:
            self._failovers.holds.report_hold(master, operation, 0, now)
        held = None if evidence.released_at is None else evidence.released_at - evidence.armed_at
        operation.step(now, "receipt", f"{found.verdict.value}: {found.why}")
        data = (("why", found.why), ("held_ms", held), ("operation", operation.order.operation_id))
        self._state.journal.write(
            JournalKind.RECEIPT,
            master.name,
            now,
            epoch=evidence.epoch,
            code=found.verdict.value,
            data=data,
            evidence=evidence,
        )
        self._state.journal.ended(master.name)
        self._state.operations.end(operation, OperationState.DONE, now, None)


def _has_history(server: Server, replid: str) -> bool:
    """Whether the present history of ``server`` has that ID."""
    return server.data_set is not None and server.data_set.replid == replid


def _same(former: SwitchoverOrder, order: SwitchoverOrder) -> bool:
    """Whether two orders are the same but for who gave them and when."""
    return (former.master, former.candidate, former.method, former.timeout, former.max_lag, former.max_pause) == (
        order.master,
        order.candidate,
        order.method,
        order.timeout,
        order.max_lag,
        order.max_pause,
    ) and (former.dry_run, former.comment, former.expect, former.at) == (
        order.dry_run,
        order.comment,
        order.expect,
        order.at,
    )
