"""
A visit to one instance: probe it, judge it, and for masters agree and act; and when to come again.

Each cause has its effects in the turn in which it arrives; a visit is what time calls for.
"""

from __future__ import annotations

from txsentinel.core.availability import Availability, TiltGuard
from txsentinel.core.failover import Failovers
from txsentinel.core.gossip import Gossip
from txsentinel.core.instances import Instance, Master, Peer
from txsentinel.core.justification import PROMOTION_NOT_ORDERED
from txsentinel.core.link import InstanceLink
from txsentinel.core.probing import Probing
from txsentinel.core.state import SentinelState
from txsentinel.core.voting import Voting
from txsentinel.model.timings import Millis


class Evaluation:
    """Puts the questions of the other modules in their order. In TILT only probes are sent."""

    def __init__(
        self,
        state: SentinelState,
        tilt: TiltGuard,
        probing: Probing,
        availability: Availability,
        voting: Voting,
        failovers: Failovers,
        gossip: Gossip,
    ) -> None:
        self._state = state
        self._tilt = tilt
        self._probing = probing
        self._availability = availability
        self._voting = voting
        self._failovers = failovers
        self._gossip = gossip

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Look at one instance: probe, judge, and for masters: agree and act."""
        if instance.gone:
            return
        due = self._probing.evaluate(instance, now)
        if not self._tilt.active:
            stable_until = self._availability.stable_until(instance, now)
            if stable_until > now and (instance.master.failover is None or isinstance(instance, Peer)):
                # Probes keep to a grid, so that a thousand of them a second do not wake us a thousand times.
                grain = self._state.timings.probe_grain
                due = -(-due // grain) * grain
                self._state.due.schedule(instance, max(min(due, stable_until + 1), now + 1))
                return
            was_down = instance.sdown_since is not None
            self._availability.evaluate(instance, now)
            if isinstance(instance, Master):
                if instance.sdown_since is not None and not was_down:
                    self._went_down(instance, now)
                self.agree(instance, now)
                self._gossip.evaluate(instance, now)
            elif instance.master.failover is not None:
                self.step(instance.master, now)
        self.schedule(instance, now)

    def recheck(self, link: InstanceLink, now: Millis) -> None:
        """A sign of life came: whoever was down by silence is up again at once."""
        if not link.sdown_instances or self._tilt.active:
            return
        for instance in list(link.sdown_instances):
            self.evaluate(instance, now)

    def _went_down(self, master: Master, now: Millis) -> None:
        """S_DOWN: ask the others, and have the replicas' offsets fresh by the time they are compared."""
        for replica in master.replicas.values():
            self._probing.request_info(replica, now)
        self._voting.ask_all(master, now)

    def agree(self, master: Master, now: Millis) -> None:
        """Opinions, O_DOWN, and the step of a failover that may follow."""
        self._voting.expire_opinions(master, now)
        self._availability.check_odown(master, now)
        self.step(master, now)
        self._ask_due(master, now)
        self.schedule(master, now)

    def step(self, master: Master, now: Millis) -> None:
        """Whatever its failover, or the want of one, calls for."""
        if self._tilt.active:
            return
        failover = master.failover
        if master.odown_since is not None and (failover is None or failover.state in PROMOTION_NOT_ORDERED):
            # What was agreed before TILT, or a moment ago, holds now or not at all.
            self._availability.check_sdown(master, now)
            self._voting.expire_opinions(master, now)
            self._availability.check_odown(master, now)
        self._failovers.evaluate(master, now)
        self.schedule(master, now)

    def _ask_due(self, master: Master, now: Millis) -> None:
        if master.sdown_since is None and master.failover is None:
            return
        for peer in master.peers.values():
            if self._voting.ask_due(peer) <= now:
                self._voting.ask(peer, now)

    def ask_new_peer(self, peer: Peer, now: Millis) -> None:
        """A peer can be reached again: it may be the one that agreement or an election waits for."""
        master = peer.master
        if not self._tilt.active and (master.sdown_since is not None or master.failover is not None):
            self._voting.ask(peer, now)

    def ask_again(self, master: Master, now: Millis) -> None:
        """Ask those anew who did not hold it down, and were not asked just now."""
        for peer in master.peers.values():
            asked_at = peer.asked_at
            if not peer.reports_master_down and (
                asked_at is None or now - asked_at >= self._state.timings.hint_period // 4
            ):
                self._voting.ask(peer, now)

    def schedule(self, instance: Instance, now: Millis) -> None:
        """When to look at it again: the earliest of what may be due."""
        if instance.gone:
            return
        due = now + self._probing.info_interval(instance)
        if self._probing.has_capacity(instance.link):
            due = min(due, self._probing.next_due(instance))
        if not self._tilt.active:
            due = min(due, self._availability.next_due(instance, now))
            if isinstance(instance, Master):
                due = min(due, self._master_due(instance, now))
        self._state.due.schedule(instance, max(due, now + 1))

    def _master_due(self, master: Master, now: Millis) -> Millis:
        due = self._failovers.next_due(master, now)
        conflict = self._gossip.conflict_due(master)
        if conflict is not None:
            due = min(due, conflict)
        if master.sdown_since is not None or master.failover is not None:
            for peer in master.peers.values():
                if peer.link.commands_up:
                    due = min(due, self._voting.ask_due(peer))
        return due
