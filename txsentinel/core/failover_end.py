"""Failovers that end without a switch: by refusals, timeouts, newer configurations, other candidates and operators."""

from __future__ import annotations

from typing import Final

from txsentinel.core import deadlines
from txsentinel.core.election import Elections
from txsentinel.core.failover_start import StartRules
from txsentinel.core.failover_state import PROMOTION_NOT_ORDERED, PROMOTION_SEEN, FailoverState
from txsentinel.core.handover import Handovers
from txsentinel.core.instances import Failover, Master, Replica
from txsentinel.core.journal import SwitchedServers
from txsentinel.core.justification import Abort
from txsentinel.core.state import SentinelState
from txsentinel.core.switched_servers import known_server, selection_servers
from txsentinel.core.write_holding import WriteHolds
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind, Outcome
from txsentinel.model.operations import OperationState, Precondition
from txsentinel.model.timings import Millis

OUTCOMES: Final = {
    "-failover-abort-not-elected": Outcome.NOT_ELECTED,
    "-failover-abort-no-good-slave": Outcome.NO_GOOD_REPLICA,
    "-failover-abort-slave-timeout": Outcome.REPLICA_TIMEOUT,
    "-failover-abort-master-timeout": Outcome.MASTER_TIMEOUT,
    "-failover-abort-master-is-back": Outcome.CANCELLED,
}
"""The event of an abort → how the failover ended."""


class FailoverEnds:
    """Aborts and discards failovers. Nothing is undone at a replica; writes that are held go on."""

    def __init__(
        self,
        state: SentinelState,
        elections: Elections,
        start_rules: StartRules,
        handovers: Handovers,
        holds: WriteHolds,
    ) -> None:
        self._state = state
        self._elections = elections
        self._start_rules = start_rules
        self._handovers = handovers
        self._holds = holds

    def cancel(self, master: Master, now: Millis, by: str) -> bool:
        """Abort a switchover; return whether that was still possible."""
        failover = master.failover
        if failover is None or failover.operation is None or failover.state not in PROMOTION_NOT_ORDERED:
            return False
        problem = Precondition("cancelled", f"it was cancelled by {by}")
        self.abort_operation(master, failover, problem, now, Outcome.CANCELLED)
        return True

    def superseded(self, master: Master, now: Millis) -> None:
        """Abort if a configuration at least as new as that of the failover is published, and its own is not yet."""
        failover = master.failover
        if failover is not None and failover.epoch <= master.config_epoch and failover.state not in PROMOTION_SEEN:
            self.abort(master, "-failover-abort-not-elected", "a newer configuration was published", now)

    def concede(self, master: Master, now: Millis) -> None:
        """End the campaign, as this Sentinel voted for another candidate."""
        failover = master.failover
        if failover is not None and failover.state is FailoverState.WAIT_START:
            self.abort(master, "-failover-abort-not-elected", "this Sentinel voted for another candidate", now)

    def handover_refused(self, master: Master, command: str, error: str, now: Millis) -> None:
        """Handle that the old master of a planned failover refused ``command``: abort the failover."""
        failover = master.failover
        if failover is not None and failover.operation is not None and failover.state not in PROMOTION_SEEN:
            self.record_refused_order(master, None, command, error, now)
            problem = Precondition("not_permitted_on_server", f"the master answered {command} with {error}")
            self.abort_operation(master, failover, problem, now)
        elif self._handovers.refused(master, command, error):
            self.record_refused_order(master, None, command, error, now)
            self.abort(master, "-failover-abort-master-timeout", f"the master answered {command} with {error}", now)

    def abort_operation(
        self, master: Master, failover: Failover, problem: Precondition, now: Millis, outcome: Outcome | None = None
    ) -> None:
        """Abort a switchover before its promotion: the writes go on, and the attempt delays no other one."""
        operation = failover.operation
        assert operation is not None
        where = "" if problem.subject is None else f"{problem.subject}: "
        reason = f"{where}{problem.text} ({problem.code})"
        self._state.note(Level.WARNING, f"Switchover of {master.name} aborted: {reason}")
        cancelled = outcome is Outcome.CANCELLED
        state = OperationState.CANCELLED if cancelled else OperationState.FAILED
        self._state.operations.end(operation, state, now, problem)
        self._elections.void(master, failover)
        self.abort(master, "-failover-abort-master-timeout", reason, now, outcome)

    def give_up(self, master: Master, failover: Failover, abort: Abort, now: Millis) -> None:
        """Abort a failover that is no longer justified, and log why."""
        self._state.note(Level.WARNING, f"Failover of {master.name} given up: {abort.reason}")
        if abort.void:
            self._elections.void(master, failover)
        self.abort(master, abort.channel, abort.reason, now)

    def timed_out(self, master: Master, failover: Failover, now: Millis) -> bool:
        """Abort the failover if its state has lasted longer than ``failover-timeout``; return whether it has."""
        late = now > deadlines.failover_state(master, failover)
        if late:
            limit = master.options.failover_timeout
            reason = f"state {failover.state.value} lasted longer than {limit} ms"
            self.abort(master, "-failover-abort-slave-timeout", reason, now)
        return late

    def abort(self, master: Master, channel: str, reason: str, now: Millis, outcome: Outcome | None = None) -> None:
        """Abort the failover and publish ``channel``; nothing is undone at the replica."""
        failover = master.failover
        assert failover is not None
        if failover.operation is not None:
            problem = Precondition((outcome or OUTCOMES[channel]).value, reason)
            self._state.operations.end(failover.operation, OperationState.FAILED, now, problem)
        if not failover.republish:
            self._state.announce(channel, master)
            journal, code = self._state.journal, (outcome or OUTCOMES[channel]).value
            by_hostname = self._state.options.announce_hostnames
            servers = SwitchedServers(known_server(master, by_hostname=by_hostname), None)
            if failover.state is not FailoverState.WAIT_START:
                servers = self.servers(master, failover.promoted)
            data = (("reason", reason), ("config_epoch", master.config_epoch))
            journal.write(
                JournalKind.ABORTED, master.name, now, epoch=failover.epoch, code=code, data=data, servers=servers
            )
            journal.ended(master.name)
        self._handovers.abort(master, failover)
        self._holds.release(master, failover, now)
        master.failover = None
        self._start_rules.forget(master)

    @staticmethod
    def set_failover(master: Master, failover: Failover | None) -> None:
        """Begin a failover, or end one that has nothing to be undone; no other module changes this."""
        master.failover = failover

    def discard(self, master: Master) -> None:
        """Discard the failover: the caller is about to remove, reset or switch the master."""
        failover = master.failover
        if failover is not None and failover.state not in PROMOTION_SEEN:
            self._handovers.abort(master, failover)
            if failover.operation is not None:
                # The next test of the operation finds that its failover is gone, and ends it.
                failover.operation.hold = None
        master.failover = None

    def record_refused_order(self, master: Master, subject: str | None, command: str, error: str, now: Millis) -> None:
        """Have the journal contain that a server refused an order; ``subject`` is a replica, ``None`` the master."""
        data = (("error", error),)
        self._state.journal.write(JournalKind.ORDER_REFUSED, master.name, now, subject=subject, code=command, data=data)

    def servers(self, master: Master, promoted: Replica | None) -> SwitchedServers:
        """Return what the journal has of the servers of a failover."""
        return selection_servers(master, promoted, by_hostname=self._state.options.announce_hostnames)
