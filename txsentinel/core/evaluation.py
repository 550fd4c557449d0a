"""
Evaluation of one instance: send probes, evaluate S_DOWN, for masters O_DOWN, and advance failovers; reschedule.

Inputs take effect in the reactor turn in which they arrive. An evaluation applies the rules that depend on time.
"""

from __future__ import annotations

from txsentinel.core.alignment import aligned
from txsentinel.core.availability import Availability
from txsentinel.core.crash_detection import CrashDetection
from txsentinel.core.failover import Failovers
from txsentinel.core.failover_state import PROMOTION_NOT_ORDERED
from txsentinel.core.fencing import Fencing
from txsentinel.core.hello_processing import HelloProcessing
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Server
from txsentinel.core.probing import Probing
from txsentinel.core.questions import Questions
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.verdict_log import VerdictLog
from txsentinel.core.voting import Voting
from txsentinel.model.timings import Millis


class Evaluation:
    """Calls the rules of the other modules in order. In TILT only probes are sent."""

    def __init__(
        self,
        state: SentinelState,
        tilt: TiltGuard,
        probing: Probing,
        availability: Availability,
        voting: Voting,
        questions: Questions,
        failovers: Failovers,
        hello_processing: HelloProcessing,
        crashes: CrashDetection,
        fencing: Fencing,
        verdicts: VerdictLog,
    ) -> None:
        self._state = state
        self._tilt = tilt
        self._probing = probing
        self._availability = availability
        self._voting = voting
        self._questions = questions
        self._failovers = failovers
        self._hello_processing = hello_processing
        self._crashes = crashes
        self._fencing = fencing
        self._verdicts = verdicts

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Evaluate one instance and schedule its next evaluation."""
        if instance.gone:
            return
        due = self._probing.evaluate(instance, now)
        if not self._tilt.active:
            self._fencing.evaluate(instance, now)
            stable_until = self._availability.stable_until(instance, now)
            if stable_until > now and (instance.master.failover is None or isinstance(instance, Peer)):
                due = aligned(instance, due, now, self._state)
                due = min(due, self._fencing.next_due(instance, now), stable_until + 1)
                self._state.due.schedule(instance, max(due, now + 1))
                return
            if isinstance(instance, Master):
                self._crashes.advance(instance, now)
            was_down = instance.sdown_since is not None
            self._availability.evaluate(instance, now)
            if isinstance(instance, Master):
                if instance.sdown_since is not None and not was_down:
                    self._went_down(instance, now)
                self.check_agreement(instance, now)
                self._hello_processing.evaluate(instance, now)
            elif instance.master.failover is not None:
                self.step(instance.master, now)
        self.schedule(instance, now)

    def refresh(self, server: Server, now: Millis) -> None:
        """Request INFO of a server now."""
        self._probing.request_info(server, now)

    def recheck(self, link: InstanceLink, now: Millis) -> None:
        """Evaluate the instances of ``link`` that are S_DOWN, as a reply arrived: they may be up again."""
        if not link.sdown_instances or self._tilt.active:
            return
        for instance in list(link.sdown_instances):
            self.evaluate(instance, now)

    def _went_down(self, master: Master, now: Millis) -> None:
        """Ask the peers about a master that is S_DOWN, and request INFO of its replicas, so that offsets are fresh."""
        for replica in master.replicas.values():
            self._probing.request_info(replica, now)
        self._questions.ask_all(master, now)

    def check_agreement(self, master: Master, now: Millis) -> None:
        """Evaluate O_DOWN, advance or start a failover, and ask peers whose question is due."""
        self._availability.check_odown(master, now)
        self.step(master, now)
        self._verdicts.evaluate(master, now)
        self._ask_due(master, now)
        self.schedule(master, now)

    def step(self, master: Master, now: Millis) -> None:
        """Advance the failover of ``master``, or start one if required."""
        if self._tilt.active:
            return
        failover = master.failover
        if master.odown_since is not None and (failover is None or failover.state in PROMOTION_NOT_ORDERED):
            # An agreement from before TILT, or from a moment ago, may no longer hold.
            self._availability.check_sdown(master, now)
            self._availability.check_odown(master, now)
        self._voting.expire_unconfirmed(master, now)
        self._failovers.evaluate(master, now)
        self.schedule(master, now)

    def _ask_due(self, master: Master, now: Millis) -> None:
        if master.sdown_since is None and master.failover is None:
            return
        for peer in master.peers.values():
            if self._questions.ask_due(peer) <= now:
                self._questions.ask(peer, now)

    def ask_new_peer(self, peer: Peer, now: Millis) -> None:
        """Ask a peer that has just connected: agreement or an election may be waiting for it."""
        master = peer.master
        if not self._tilt.active and (master.sdown_since is not None or master.failover is not None):
            self._questions.ask(peer, now)

    def ask_again(self, master: Master, now: Millis) -> None:
        """Ask the peers again that did not report ``master`` down and were not asked just now."""
        for peer in master.peers.values():
            asked_at = peer.asked_at
            if not peer.reports_master_down and (
                asked_at is None or now - asked_at >= self._state.timings.hint_period // 4
            ):
                self._questions.ask(peer, now)

    def schedule(self, instance: Instance, now: Millis) -> None:
        """Schedule the next evaluation of ``instance`` at the earliest time at which anything may be due."""
        if instance.gone:
            return
        due = now + self._probing.info_interval(instance)
        if self._probing.has_capacity(instance.link):
            due = min(due, self._probing.next_due(instance))
        if not self._tilt.active:
            due = min(due, self._availability.next_due(instance, now), self._fencing.next_due(instance, now))
            if isinstance(instance, Master):
                due = min(due, self._master_due(instance, now))
        self._state.due.schedule(instance, max(due, now + 1))

    def _master_due(self, master: Master, now: Millis) -> Millis:
        due = min(self._failovers.next_due(master, now), self._crashes.due(master))
        conflict = self._hello_processing.conflict_due(master)
        if conflict is not None:
            due = min(due, conflict)
        unconfirmed = self._voting.unconfirmed_until(master)
        if unconfirmed is not None:
            due = min(due, unconfirmed)
        if master.sdown_since is not None or master.failover is not None:
            for peer in master.peers.values():
                if peer.link.commands_up:
                    due = min(due, self._questions.ask_due(peer))
        return due
