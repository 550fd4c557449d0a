"""
The failover of one master, from the campaign to the switch.

A table lists the permitted state transitions. Each is made in the reactor turn in which its cause arrives: a vote, a
commit, a connection, an INFO. Timers only end steps that take too long.
"""

from __future__ import annotations

from txsentinel.core import deadlines
from txsentinel.core.effects import Crash
from txsentinel.core.election import Elections, ElectionStatus
from txsentinel.core.errors import IllegalTransition
from txsentinel.core.failover_end import FailoverEnds
from txsentinel.core.failover_start import StartRules
from txsentinel.core.failover_state import FOLLOWS, PROMOTION_NOT_ORDERED, PROMOTION_SEEN, FailoverState, SyncStep
from txsentinel.core.handover import MIN_HAND_OVER_TIME, Handovers
from txsentinel.core.instances import Failover, InstanceLink, Master, Replica
from txsentinel.core.justification import abort_reason, is_known_unpromoted
from txsentinel.core.pause_rules import pause_of
from txsentinel.core.probing import Probing
from txsentinel.core.reconfiguration import Reconfiguration
from txsentinel.core.role import Role
from txsentinel.core.selection import select, unfit_because
from txsentinel.core.state import SentinelState
from txsentinel.core.switched_servers import switched_servers
from txsentinel.core.switching import Switching
from txsentinel.core.switchover_state import Operation
from txsentinel.core.verdict_log import VerdictLog
from txsentinel.core.write_holding import WriteHolds
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.operations import Precondition, SwitchoverMethod
from txsentinel.model.timings import Millis

SELECT_TIMEOUT: Millis = 10_000
"""How long an elected leader waits for a fit replica, as connections may be lost for a moment in a mass failure."""


class Failovers:
    """Starts, advances and ends failovers. In TILT only a promotion is recorded; nothing is started or advanced."""

    def __init__(
        self,
        state: SentinelState,
        elections: Elections,
        start_rules: StartRules,
        probing: Probing,
        switching: Switching,
        reconfiguration: Reconfiguration,
        verdicts: VerdictLog,
        holds: WriteHolds,
    ) -> None:
        self._state = state
        self._elections = elections
        self._start_rules = start_rules
        self._probing = probing
        self._switching = switching
        self._reconfiguration = reconfiguration
        self._verdicts = verdicts
        self.handovers = Handovers(state)
        self.holds = holds
        self.ends = FailoverEnds(state, elections, start_rules, self.handovers, holds)

    def evaluate(self, master: Master, now: Millis) -> None:
        """Start a failover of ``master`` or advance the current one, as far as possible now."""
        failover = master.failover
        if self._state.crashing:
            return
        if failover is None:
            if self._start_rules.is_due(master, now):
                self._start(master, now, forced=False)
            return
        if failover.state in PROMOTION_NOT_ORDERED or failover.state is FailoverState.WAIT_PROMOTION:
            abort = abort_reason(self._state, master, failover, now)
            if abort is not None and (not abort.if_not_promoted or is_known_unpromoted(failover)):
                self.ends.give_up(master, failover, abort, now)
                return
        problem = None if failover.operation is None else self.holds.problem(master, failover, now)
        if problem is not None and failover.state in PROMOTION_NOT_ORDERED:
            self.ends.abort_operation(master, failover, problem, now)
        elif failover.state is FailoverState.WAIT_START:
            status = self._elections.assess(master, failover, now)
            if status is ElectionStatus.WON:
                self._elected(master, failover, now)
            elif status is ElectionStatus.GIVEN_UP:
                reason = "no majority voted for this Sentinel in time"
                self.ends.abort(master, "-failover-abort-not-elected", reason, now)
        elif failover.state is FailoverState.SELECT_REPLICA:
            self._select(master, failover, now)
        elif failover.state is FailoverState.SEND_SLAVEOF_NOONE:
            self._promote(master, failover, now)
        elif failover.state is FailoverState.WAIT_PROMOTION:
            self._await_promotion(master, failover, now)
        elif failover.state is FailoverState.RECONF_REPLICAS:
            self._reconfigure_replicas(master, failover, now)

    def next_due(self, master: Master, now: Millis) -> Millis:
        """Return when :meth:`evaluate` must be called even if nothing else happens."""
        failover = master.failover
        if failover is None:
            return self._start_rules.next_due(master, now)
        if failover.state is FailoverState.WAIT_START:
            due = self._elections.next_due(master, failover)
            return due if failover.operation is None else min(due, self.holds.next_due(failover))
        if failover.state is FailoverState.SELECT_REPLICA:
            return now + self._state.timings.sweep_period
        due = deadlines.failover_state(master, failover) + 1
        if failover.operation is not None and failover.state not in PROMOTION_SEEN:
            due = min(due, self.holds.next_due(failover))
        if failover.coordinated and failover.state is FailoverState.SEND_SLAVEOF_NOONE:
            due -= MIN_HAND_OVER_TIME
        if failover.state is FailoverState.RECONF_REPLICAS:
            for replica in master.replicas.values():
                due = min(due, deadlines.reconfiguration(replica, self._state.timings) + 1)
        return due

    def force(self, master: Master, now: Millis, *, coordinated: bool, by: str | None = None) -> None:
        """Start a failover now, whether or not the master is down (``SENTINEL FAILOVER``)."""
        self._state.note(Level.NOTICE, f"Executing user requested FAILOVER of '{master.name}'")
        code = "FAILOVER COORDINATED" if coordinated else "FAILOVER"
        self._state.journal.write(JournalKind.OPERATOR, master.name, now, code=code, data=(("by", by),))
        self._start(master, now, forced=not coordinated, coordinated=coordinated)

    def switch_over(self, master: Master, operation: Operation, now: Millis) -> None:
        """Start the failover of a switchover whose conditions are met."""
        order, plan = operation.order, operation.plan
        assert plan is not None
        self._state.note(Level.NOTICE, f"Executing user requested switchover of '{master.name}' to {plan.candidate}")
        data = (
            ("by", order.by),
            ("operation", order.operation_id),
            ("comment", order.comment),
            ("cause", order.recorded_cause),
        )
        self._state.journal.write(JournalKind.OPERATOR, master.name, now, code="TXSENTINEL SWITCHOVER", data=data)
        handover = plan.method is SwitchoverMethod.HANDOVER
        self._start(master, now, forced=False, coordinated=handover, operation=operation)

    def promotion_refused(self, replica: Replica, command: str, error: str, now: Millis) -> None:
        """
        Handle that ``replica`` refused ``command`` of the transaction that promotes it, so that no part was executed.

        Another replica is selected at once, in the same epoch, as this one was not promoted.
        """
        replica.promotion_refusal, replica.promotion_refused_at = f"{command} with {error}", now
        master = replica.master
        failover = master.failover
        if failover is None or failover.promoted is not replica or failover.state is not FailoverState.WAIT_PROMOTION:
            return
        self.ends.record_refused_order(master, replica.name, command, error, now)
        if failover.operation is not None:
            problem = Precondition("not_permitted_on_server", f"it answered {command} with {error}", replica.name)
            self.ends.abort_operation(master, failover, problem, now)
            return
        self._deselect(failover, now)
        self._select(master, failover, now)

    def link_up(self, link: InstanceLink) -> None:
        """Handle an established command connection: the configuration of a replica may have changed."""
        for replica in link.instances:
            if isinstance(replica, Replica):
                replica.promotion_refusal = None

    def republish(self, master: Master, now: Millis) -> None:
        """Campaign for a new config epoch for the current address. This is not a failover attempt."""
        if self._state.storage_failing or pause_of(self._state, master.name, now) is not None:
            return
        self._campaign(master, Failover(0, now, now, republish=True), now)

    def finish(self, master: Master, now: Millis) -> None:
        """Complete a failover whose result is already published, so that the old address does not return."""
        failover = master.failover
        if failover is None or failover.state is not FailoverState.RECONF_REPLICAS:
            return
        self._finish(master, failover, now)

    def promotion_seen(self, replica: Replica, now: Millis) -> bool:
        """
        Handle that ``replica`` reports to be a master; return whether that is the awaited promotion.

        From here on the new address is published to clients and peers, once it is durable.
        """
        master = replica.master
        failover = master.failover
        if failover is None or failover.promoted is not replica or failover.state is not FailoverState.WAIT_PROMOTION:
            return False
        state = self._state
        if failover.epoch <= master.config_epoch:
            # A newer configuration was published meanwhile; no peer would adopt ours.
            reason = "a newer configuration was published before the promotion was seen"
            self.ends.abort(master, "-failover-abort-slave-timeout", reason, now)
            return True
        operation = failover.operation
        if operation is not None and self.holds.expired(failover, now):
            # The old master may have accepted writes since; the replica is ordered to follow it again.
            problem = Precondition("hold_expired", "writes were released before the promotion was seen")
            self.ends.abort_operation(master, failover, problem, now)
            return True
        durable = master.published_address
        self._switching.adopt_config_epoch(master, failover.epoch)
        self._enter(failover, FailoverState.RECONF_REPLICAS, now)
        state.moved(master, durable, state.changed(master))
        state.announce("+promoted-slave", replica)
        state.journal.write(JournalKind.PROMOTED, master.name, now, epoch=failover.epoch, subject=replica.name)
        state.journal.announcing(master.name, now)
        state.comparisons.begin(master.name, failover.epoch, master, replica, now)
        if operation is not None:
            self.holds.promoted(master, failover, replica, now)
        if "crash-after-promotion" in state.simulated_crashes:
            self._crash()
            return True
        state.announce("+failover-state-reconf-slaves", master)
        self._switching.run_client_script(master, "leader", replica.address)
        # Before the hello: its PUBLISH would be paused on the old master and delay the CLIENT UNPAUSE behind it.
        self.handovers.finish(master, failover)
        self._switching.broadcast_hello(master, now)
        if failover.fences:
            self.holds.demote(master.link)
        elif not failover.coordinated:
            self._reconfiguration.demote_old_master(master, replica.address, now)
        self._reconfigure_replicas(master, failover, now)
        return True

    def _start(
        self,
        master: Master,
        now: Millis,
        *,
        forced: bool,
        coordinated: bool = False,
        operation: Operation | None = None,
    ) -> None:
        self._reconfiguration.begin(master)
        for replica in master.replicas.values():
            self._probing.request_info(replica, now)
        failover = Failover(0, now, now, forced=forced, coordinated=coordinated, operation=operation)
        self._campaign(master, failover, now)

    def _campaign(self, master: Master, failover: Failover, now: Millis) -> None:
        self.ends.set_failover(master, failover)
        self._start_rules.forget(master)
        self._elections.campaign(master, failover, now)

    def _elected(self, master: Master, failover: Failover, now: Millis) -> None:
        state = self._state
        if failover.republish:
            self.ends.set_failover(master, None)
            self._switching.adopt_config_epoch(master, failover.epoch)
            state.changed(master)
            self._switching.broadcast_hello(master, now)
            return
        state.announce("+elected-leader", master)
        mine = (state.options.my_id, failover.epoch)
        votes = 1 + sum(1 for answer in failover.answers.values() if answer == mine)
        data = (("votes", votes), ("needed", max(master.majority, master.options.quorum)))
        state.journal.write(JournalKind.ELECTED, master.name, now, epoch=failover.epoch, data=data)
        if "crash-after-election" in state.simulated_crashes:
            self._crash()
            return
        self._enter(failover, FailoverState.SELECT_REPLICA, now)
        state.announce("+failover-state-select-slave", master)
        self._select(master, failover, now)

    def _select(self, master: Master, failover: Failover, now: Millis) -> None:
        chosen = select(master, self._state.timings, now)
        operation = failover.operation
        if operation is not None:
            operation.step(now, "elected", f"this Sentinel leads in epoch {failover.epoch}")
            chosen = master.replicas.get(operation.candidate or "")
            if chosen is None:
                problem = Precondition("candidate_unfit", "it is not a replica any more", operation.candidate)
                self.ends.abort_operation(master, failover, problem, now)
                return
        if chosen is None:
            # There was one when the campaign began, so it may return soon; the next attempt would be much later.
            timeout = min(SELECT_TIMEOUT, master.options.failover_timeout)
            hopeless = all(each.priority == 0 or each.promotion_refusal for each in master.replicas.values())
            if now - failover.entered_at >= timeout or hopeless:
                self._verdicts.log(master, now)
                self.ends.abort(master, "-failover-abort-no-good-slave", "no replica can be promoted", now)
            return
        failover.promoted = chosen
        servers = self.ends.servers(master, chosen)
        self._state.journal.write(
            JournalKind.SELECTED, master.name, now, epoch=failover.epoch, subject=chosen.name, servers=servers
        )
        self._state.announce("+selected-slave", chosen)
        self._enter(failover, FailoverState.SEND_SLAVEOF_NOONE, now)
        self._state.announce("+failover-state-send-slaveof-noone", chosen)
        self._promote(master, failover, now)

    def _deselect(self, failover: Failover, now: Millis) -> None:
        """Return to selection, as the selected replica was not and cannot be promoted."""
        failover.promoted = failover.promotion_sent_at = None
        self._enter(failover, FailoverState.SELECT_REPLICA, now)

    def _promote(self, master: Master, failover: Failover, now: Millis) -> None:
        promoted = failover.promoted
        assert promoted is not None
        if failover.coordinated and not self.handovers.time_left(master, failover, now):
            self.ends.abort(master, "-failover-abort-master-timeout", "too little time is left for a hand-over", now)
            return
        if self.ends.timed_out(master, failover, now):
            return
        if failover.operation is not None:
            problem = self.holds.problem(master, failover, now)
            if problem is not None:
                self.ends.abort_operation(master, failover, problem, now)
                return
            if failover.fences and not self.holds.may_promote(master, failover, now):
                return
        if unfit_because(promoted, master, self._state.timings, now) is not None:
            # Another one is selected by the next evaluation.
            self._deselect(failover, now)
            return
        # Sent as a probe: all that it depends on, our own vote and its epoch, was durable before it was counted.
        if failover.coordinated:
            if not self.handovers.order(master, failover, now):
                return
            self._probing.request_info(promoted, now)
        else:
            self._reconfiguration.order(promoted, None, now)
        failover.promotion_sent_at = now
        self._enter(failover, FailoverState.WAIT_PROMOTION, now)
        self._state.announce("+failover-state-wait-promotion", promoted)
        if failover.operation is not None:
            failover.operation.step(now, "promotion_ordered", f"{promoted.name} is to become master")
        code = "handover" if failover.coordinated else "promotion"
        self._state.journal.write(
            JournalKind.PROMOTION_ORDERED, master.name, now, epoch=failover.epoch, subject=promoted.name, code=code
        )

    def _crash(self) -> None:
        """Have the process crash once the effects so far are executed; until then no failover is advanced."""
        self._state.crashing = True
        self._state.emit(Crash("Sentinel CRASH because of SENTINEL simulate-failure"))

    def _await_promotion(self, master: Master, failover: Failover, now: Millis) -> None:
        """Handle what no INFO handles: a promotion seen in TILT, an order that was lost, a timeout."""
        promoted, sent_at = failover.promoted, failover.promotion_sent_at
        assert promoted is not None and sent_at is not None
        refreshed_at = promoted.info_refreshed_at
        if promoted.role_reported is Role.MASTER and refreshed_at is not None and refreshed_at > sent_at:
            self.promotion_seen(promoted, now)
            return
        if failover.coordinated and self.handovers.has_failed(master, failover):
            self.ends.abort(master, "-failover-abort-master-timeout", "the master did not hand over", now)
            return
        # Before the order is repeated: nothing would follow up a promotion after the failover was aborted.
        if self.ends.timed_out(master, failover, now):
            return
        if failover.operation is not None and self.holds.expired(failover, now):
            problem = Precondition("hold_expired", "the promotion was not seen before the writes were released")
            self.ends.abort_operation(master, failover, problem, now)
            return
        # The order may have been lost with the connection on which it was sent.
        lost = (promoted.link.commands_since or 0) > sent_at and not failover.coordinated
        if lost and abort_reason(self._state, master, failover, now) is None:
            failover.promotion_sent_at = now
            self._reconfiguration.order(promoted, None, now)

    def _reconfigure_replicas(self, master: Master, failover: Failover, now: Millis) -> None:
        """Advance the reconfiguration of the other replicas; finish when it is done."""
        if self._reconfiguration.advance(master, failover, now):
            others = [replica for replica in master.replicas.values() if replica is not failover.promoted]
            done = sum(1 for replica in others if replica.sync is SyncStep.DONE and not replica.is_down)
            data = (("done", done), ("replicas", len(others)))
            self._state.journal.write(JournalKind.REPLICAS_DONE, master.name, now, epoch=failover.epoch, data=data)
            self._finish(master, failover, now)

    def _finish(self, master: Master, failover: Failover, now: Millis) -> None:
        assert failover.promoted is not None
        self._state.announce("+failover-end", master)
        self._enter(failover, FailoverState.UPDATE_CONFIG, now)
        address = failover.promoted.address
        by_hostname = self._state.options.announce_hostnames
        servers = switched_servers(master, address, failover.promoted, by_hostname=by_hostname)
        self._switching.announce_switch(master, address)
        self._switching.record_switch(JournalKind.SWITCHED, master, failover.epoch, None, servers, now)
        self._switching.switch(master, address, address, now)

    @staticmethod
    def _enter(failover: Failover, state: FailoverState, now: Millis) -> None:
        if state not in FOLLOWS[failover.state]:
            raise IllegalTransition(failover.state, state)
        failover.state, failover.entered_at = state, now
