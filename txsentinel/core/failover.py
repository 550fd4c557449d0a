"""
The failover of one master, from the campaign to the switch.

A table lists the permitted state transitions. Each is made in the reactor turn in which its cause arrives: a vote, a
commit, a connection, an INFO. Timers only end steps that take too long.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import Crash, Reconfigure
from txsentinel.core.election import Elections, ElectionStatus
from txsentinel.core.errors import IllegalTransition
from txsentinel.core.handover import MIN_HAND_OVER_TIME, Handovers
from txsentinel.core.instances import PROMOTION_SEEN, Failover, FailoverState, Master, Replica, Role, SyncStep
from txsentinel.core.justification import (
    PROMOTION_NOT_ORDERED,
    Abort,
    abort_reason,
    is_known_unpromoted,
    return_awaited_until,
)
from txsentinel.core.probing import Probing
from txsentinel.core.selection import choose, unfit_because
from txsentinel.core.state import SentinelState
from txsentinel.core.succession import has_handed_over
from txsentinel.core.switching import Switching
from txsentinel.core.voting import Voting
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis

FOLLOWS: Final = {
    FailoverState.WAIT_START: {FailoverState.SELECT_REPLICA},
    FailoverState.SELECT_REPLICA: {FailoverState.SEND_SLAVEOF_NOONE},
    FailoverState.SEND_SLAVEOF_NOONE: {FailoverState.WAIT_PROMOTION, FailoverState.SELECT_REPLICA},
    FailoverState.WAIT_PROMOTION: {FailoverState.RECONF_REPLICAS, FailoverState.SELECT_REPLICA},
    FailoverState.RECONF_REPLICAS: {FailoverState.UPDATE_CONFIG},
    FailoverState.UPDATE_CONFIG: set(),
}
"""
State → the states that may follow. A failover can be aborted until the promotion was seen.

Selection is repeated if the selected replica turns out to be unfit, or refuses to be promoted.
"""

FRESH_INFO_TIMEOUT: Millis = 100
"""How long after O_DOWN to wait for an INFO of each replica sent after S_DOWN, so that fresh offsets are compared."""

SELECT_TIMEOUT: Millis = 10_000
"""How long an elected leader waits for a fit replica, as connections may be lost for a moment in a mass failure."""

UNFIT_NOTE_PERIOD: Millis = 10_000
"""Interval of the log line that says why a master is not failed over."""

UNFIT_EVENT_DELAY: Millis = 1_000
"""Delay after O_DOWN until the lack of a fit replica is published, as a slow replica may turn out to be fit."""


class Failovers:
    """Starts, advances and ends failovers. In TILT only a promotion is recorded; nothing is started or advanced."""

    def __init__(self, state: SentinelState, voting: Voting, probing: Probing, switching: Switching) -> None:
        self._state = state
        self._voting = voting
        self._probing = probing
        self._switching = switching
        self._elections = Elections(state, voting)
        self.handovers = Handovers(state)

    def evaluate(self, master: Master, now: Millis) -> None:
        """Start a failover of ``master`` or advance the current one, as far as possible now."""
        failover = master.failover
        if self._state.crashing:
            return
        if failover is None:
            self._consider(master, now)
            return
        if failover.state in PROMOTION_NOT_ORDERED or failover.state is FailoverState.WAIT_PROMOTION:
            abort = abort_reason(self._state, master, failover)
            if abort is not None and (not abort.if_not_promoted or is_known_unpromoted(failover)):
                self._give_up(master, failover, abort)
                return
        if failover.state is FailoverState.WAIT_START:
            status = self._elections.assess(master, failover, now)
            if status is ElectionStatus.WON:
                self._elected(master, failover, now)
            elif status is ElectionStatus.GIVEN_UP:
                self.abort(master, "-failover-abort-not-elected")
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
        never = now + self._state.timings.ping_period
        failover = master.failover
        timeout = master.options.failover_timeout
        if failover is None:
            if master.odown_since is None:
                return never
            due = never if master.campaign_at is None else master.campaign_at
            if master.attempt_started_at is not None and not has_handed_over(master):
                due = max(due, master.attempt_started_at + 2 * timeout)
            if due <= now:
                due = master.odown_since + FRESH_INFO_TIMEOUT
            # The campaign is due already, so something else is missing: a fit replica, or a writable file.
            return due if due > now else now + self._state.timings.sweep_period
        if failover.state is FailoverState.WAIT_START:
            return self._elections.next_due(master, failover)
        if failover.state is FailoverState.SELECT_REPLICA:
            return now + self._state.timings.sweep_period
        due = failover.entered_at + timeout + 1
        if failover.coordinated and failover.state is FailoverState.SEND_SLAVEOF_NOONE:
            due -= MIN_HAND_OVER_TIME
        if failover.state is FailoverState.RECONF_REPLICAS:
            limit = self._state.timings.replica_reconf_timeout
            for replica in master.replicas.values():
                if replica.sync is SyncStep.SENT:
                    due = min(due, replica.reconf_sent_at + limit + 1)
        return due

    def force(self, master: Master, now: Millis, *, coordinated: bool) -> None:
        """Start a failover now, whether or not the master is down (``SENTINEL FAILOVER``)."""
        self._state.note(Level.NOTICE, f"Executing user requested FAILOVER of '{master.name}'")
        self._start(master, now, forced=not coordinated, coordinated=coordinated)

    def handover_refused(self, master: Master, command: str, error: str) -> None:
        """Handle that the old master of a coordinated failover refused ``command``: abort the failover."""
        if self.handovers.refused(master, command, error):
            self.abort(master, "-failover-abort-master-timeout")

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
        self._deselect(failover, now)
        self._select(master, failover, now)

    def republish(self, master: Master, now: Millis) -> None:
        """Campaign for a new config epoch for the current address. This is not a failover attempt."""
        if self._state.storage_failing:
            return
        self._elections.campaign(master, Failover(0, now, now, republish=True), now)

    def superseded(self, master: Master) -> None:
        """Abort if a configuration at least as new as that of the failover is published, and its own is not yet."""
        failover = master.failover
        if failover is not None and failover.epoch <= master.config_epoch and failover.state not in PROMOTION_SEEN:
            self.abort(master, "-failover-abort-not-elected")

    def concede(self, master: Master) -> None:
        """End the campaign, as this Sentinel voted for another candidate."""
        failover = master.failover
        if failover is not None and failover.state is FailoverState.WAIT_START:
            self.abort(master, "-failover-abort-not-elected")

    def abort(self, master: Master, channel: str) -> None:
        """Abort the failover and publish ``channel``; nothing is undone at the replica."""
        failover = master.failover
        assert failover is not None
        if not failover.republish:
            self._state.announce(channel, master)
        self.handovers.abort(master, failover)
        master.failover = None
        master.campaign_at = None

    def _give_up(self, master: Master, failover: Failover, abort: Abort) -> None:
        """Abort a failover that is no longer justified, and log why."""
        self._state.note(Level.WARNING, f"Failover of {master.name} given up: {abort.reason}")
        if abort.void and master.attempt_started_at == failover.started_at:
            master.attempt_started_at = failover.attempt_before
        self.abort(master, abort.channel)

    def discard(self, master: Master) -> None:
        """Discard the failover: the caller is about to remove, reset or switch the master."""
        failover = master.failover
        if failover is not None and failover.state not in PROMOTION_SEEN:
            self.handovers.abort(master, failover)
        master.failover = None

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
            self.abort(master, "-failover-abort-slave-timeout")
            return True
        master.config_epoch, durable = failover.epoch, master.published_address
        self._enter(failover, FailoverState.RECONF_REPLICAS, now)
        state.moved(master, durable, state.changed(master))
        state.announce("+promoted-slave", replica)
        if "crash-after-promotion" in state.simulated_crashes:
            self._crash()
            return True
        state.announce("+failover-state-reconf-slaves", master)
        self._switching.run_client_script(master, "leader", replica.address)
        # Before the hello: its PUBLISH would be paused on the old master and delay the CLIENT UNPAUSE behind it.
        self.handovers.finish(master, failover)
        self._switching.broadcast_hello(master, now)
        if not failover.coordinated:
            self._demote_old_master(master, replica.address, now)
        self._reconfigure_replicas(master, failover, now)
        return True

    def sync_seen(self, replica: Replica, now: Millis) -> None:
        """Handle that ``replica`` reports to be a replica: record how far it follows the promoted one."""
        failover = replica.master.failover
        if failover is None or failover.promoted is None:
            return
        if replica.sync is SyncStep.SENT:
            if replica.follows(failover.promoted.address):
                replica.sync = SyncStep.IN_PROGRESS
                self._state.announce("+slave-reconf-inprog", replica)
        if replica.sync is SyncStep.IN_PROGRESS and replica.master_link_up:
            replica.sync = SyncStep.DONE
            self._state.announce("+slave-reconf-done", replica)

    def _consider(self, master: Master, now: Millis) -> None:
        """Start a failover of a master that is O_DOWN if its campaign is due and a replica can be promoted."""
        if master.odown_since is None:
            return
        if self._state.storage_error is not None:
            self._note_unable(master, f"{self._state.storage_error}, so it neither votes nor leads", now)
            return
        if not self._may_attempt(master, now):
            return
        awaited_until = return_awaited_until(master, self._state.timings, now)
        if awaited_until is not None and awaited_until > now:
            if master.campaign_at is None or master.campaign_at < awaited_until:
                master.campaign_at = awaited_until + self._campaign_delay(master, now)
                text = "lost together with its replicas, which are back; it is waited for until a failover begins"
                self._state.note(Level.NOTICE, f"{master.name} was {text}: {awaited_until - now} ms")
            return
        if master.campaign_at is None:
            master.campaign_at = now + self._campaign_delay(master, now)
        if now < master.campaign_at or not self._offsets_fresh(master, now):
            return
        if self._state.in_mass_failure(now):
            # It may have begun after the delay was computed; candidates with lower IDs are late, too.
            turn = master.odown_since + self._voting.rank(master) * self._state.stagger(now)
            if now < turn:
                master.campaign_at = turn
                return
        chosen, refused = choose(master, self._state.timings, now)
        master.last_refusals = refused
        if chosen is None:
            self._note_unfit(master, now)
            self._announce_unfit(master, now)
            return
        self._start(master, now, forced=False)

    def _campaign_delay(self, master: Master, now: Millis) -> Millis:
        """Return how much later than the first candidate this Sentinel campaigns."""
        rank = self._voting.rank(master)
        stagger = self._state.stagger(now)
        return rank * stagger + (self._state.rng(stagger // 4 + 1) if rank else 0)

    def _may_attempt(self, master: Master, now: Millis) -> bool:
        started = master.attempt_started_at
        distance = 2 * master.options.failover_timeout
        if started is None or now - started >= distance or has_handed_over(master):
            return True
        if master.delay_logged_for != started:
            master.delay_logged_for = started
            text = "Next failover delay: I will not start a failover before"
            self._state.note(Level.NOTICE, text, started + distance - now)
        return False

    def _offsets_fresh(self, master: Master, now: Millis) -> bool:
        """Whether every reachable replica has answered INFO since the master went down, or waiting has timed out."""
        since = master.sdown_since
        if since is None or master.odown_since is None or now - master.odown_since >= FRESH_INFO_TIMEOUT:
            return True
        return all(
            replica.info_refreshed_at is not None and replica.info_refreshed_at >= since
            for replica in master.replicas.values()
            if replica.link.commands_up and not replica.is_down
        )

    def _note_unfit(self, master: Master, now: Millis) -> None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in master.last_refusals) or "it has no replica"
        self._note_unable(master, f"no replica can be promoted ({reasons})", now)

    def _note_unable(self, master: Master, why: str, now: Millis) -> None:
        """Log why a master that is down is not failed over, at most every ``UNFIT_NOTE_PERIOD``."""
        if master.unfit_logged_at is not None and now - master.unfit_logged_at < UNFIT_NOTE_PERIOD:
            return
        master.unfit_logged_at = now
        self._state.note(Level.WARNING, f"No failover of {master.name}: {why}")

    def _announce_unfit(self, master: Master, now: Millis) -> None:
        """
        Publish the event that a C Sentinel publishes when its attempt ends without a fit replica.

        The Sentinel that would campaign first publishes it, at most once in two failover timeouts.
        """
        if master.odown_since is None or now - master.odown_since < UNFIT_EVENT_DELAY:
            return
        before = master.unfit_announced_at
        if before is not None and now - before < 2 * master.options.failover_timeout:
            return
        if self._voting.rank(master) == 0:
            master.unfit_announced_at = now
            self._state.announce("-failover-abort-no-good-slave", master)

    def _start(self, master: Master, now: Millis, *, forced: bool, coordinated: bool = False) -> None:
        for replica in master.replicas.values():
            replica.sync = SyncStep.NOT_ASKED
            self._probing.request_info(replica, now)
        self._elections.campaign(master, Failover(0, now, now, forced=forced, coordinated=coordinated), now)

    def _elected(self, master: Master, failover: Failover, now: Millis) -> None:
        state = self._state
        if failover.republish:
            master.config_epoch = failover.epoch
            master.failover = None
            master.conflict_since = None
            state.changed(master)
            self._switching.broadcast_hello(master, now)
            return
        state.announce("+elected-leader", master)
        if "crash-after-election" in state.simulated_crashes:
            self._crash()
            return
        self._enter(failover, FailoverState.SELECT_REPLICA, now)
        state.announce("+failover-state-select-slave", master)
        self._select(master, failover, now)

    def _select(self, master: Master, failover: Failover, now: Millis) -> None:
        chosen, refused = choose(master, self._state.timings, now)
        master.last_refusals = refused
        if chosen is None:
            # There was one when the campaign began, so it may return soon; the next attempt would be much later.
            timeout = min(SELECT_TIMEOUT, master.options.failover_timeout)
            hopeless = all(each.priority == 0 or each.promotion_refusal for each in master.replicas.values())
            if now - failover.entered_at >= timeout or hopeless:
                self._note_unfit(master, now)
                self.abort(master, "-failover-abort-no-good-slave")
            return
        failover.promoted = chosen
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
            self.abort(master, "-failover-abort-master-timeout")
            return
        if self._timed_out(master, failover, now):
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
            self._order(promoted, None, now)
        failover.promotion_sent_at = now
        self._enter(failover, FailoverState.WAIT_PROMOTION, now)
        self._state.announce("+failover-state-wait-promotion", promoted)

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
            self.abort(master, "-failover-abort-master-timeout")
            return
        # Before the order is repeated: nothing would follow up a promotion after the failover was aborted.
        if self._timed_out(master, failover, now):
            return
        # The order may have been lost with the connection on which it was sent.
        lost = (promoted.link.commands_since or 0) > sent_at and not failover.coordinated
        if lost and abort_reason(self._state, master, failover) is None:
            failover.promotion_sent_at = now
            self._order(promoted, None, now)

    def _timed_out(self, master: Master, failover: Failover, now: Millis) -> bool:
        """Abort the failover if its state has lasted longer than ``failover-timeout``; return whether it has."""
        late = now - failover.entered_at > master.options.failover_timeout
        if late:
            self.abort(master, "-failover-abort-slave-timeout")
        return late

    def _order(self, replica: Replica, address: Address | None, now: Millis) -> None:
        replica.info_requested_at = now
        self._state.emit(self._switching.role_change(replica, address), probe=True)

    def _demote_old_master(self, master: Master, new: Address, now: Millis) -> None:
        """
        Make an old master that is still reachable, as after a forced failover or a hang, a replica of the new one.

        C Sentinels let it accept writes, which are lost, until it is converted ten seconds later.
        """
        if master.link.commands_up:
            host = new.announced(self._state.options.announce_hostnames)
            master.info_requested_at = now
            self._state.emit(Reconfigure(master.link, host, new.port))

    def _reconfigure_replicas(self, master: Master, failover: Failover, now: Millis) -> None:
        """Make the other replicas follow the new master, ``parallel-syncs`` at a time; finish when all do."""
        promoted = failover.promoted
        assert promoted is not None
        others = [replica for replica in master.replicas.values() if replica is not promoted]
        if promoted.is_down:
            # It is the published master already: finish, so that its own failover can begin.
            self._finish(master, failover, now)
            return
        limit = self._state.timings.replica_reconf_timeout
        for replica in others:
            if replica.sync is SyncStep.SENT and now - replica.reconf_sent_at > limit:
                self._state.announce("-slave-reconf-sent-timeout", replica)
                replica.sync = SyncStep.DONE
        busy = sum(1 for replica in others if replica.sync in (SyncStep.SENT, SyncStep.IN_PROGRESS))
        for replica in others:
            if busy >= master.options.parallel_syncs:
                break
            if replica.sync is SyncStep.NOT_ASKED and replica.link.commands_up:
                self._follow(replica, promoted, now)
                self._state.announce("+slave-reconf-sent", replica)
                busy += 1
        outstanding = [r for r in others if r.sync is not SyncStep.DONE and not r.is_down]
        if not outstanding:
            self._finish(master, failover, now)
        elif now - failover.entered_at > master.options.failover_timeout:
            self._state.announce("+failover-end-for-timeout", master)
            for replica in others:
                if replica.sync is SyncStep.NOT_ASKED and replica.link.commands_up:
                    self._follow(replica, promoted, now)
                    self._state.announce("+slave-reconf-sent-be", replica)
            self._finish(master, failover, now)

    def _follow(self, replica: Replica, promoted: Replica, now: Millis) -> None:
        self._order(replica, promoted.address, now)
        replica.sync = SyncStep.SENT
        replica.reconf_sent_at = now

    def _finish(self, master: Master, failover: Failover, now: Millis) -> None:
        assert failover.promoted is not None
        self._state.announce("+failover-end", master)
        self._enter(failover, FailoverState.UPDATE_CONFIG, now)
        address = failover.promoted.address
        self._switching.announce_switch(master, address)
        self._switching.switch(master, address, address, now)

    @staticmethod
    def _enter(failover: Failover, state: FailoverState, now: Millis) -> None:
        if state not in FOLLOWS[failover.state]:
            raise IllegalTransition(failover.state, state)
        failover.state, failover.entered_at = state, now
