"""Reconfiguration of the servers after a promotion: the old master and the other replicas follow the new master."""

from __future__ import annotations

from txsentinel.core import deadlines
from txsentinel.core.effects import Reconfigure
from txsentinel.core.failover_state import SyncStep
from txsentinel.core.instances import Failover, Master, Replica
from txsentinel.core.lineage import may_be_ordered
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.switching import Switching
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis


class Reconfiguration:
    """Sends the orders that change roles, and records how far each replica follows them."""

    def __init__(self, state: SentinelState, registry: Registry, switching: Switching) -> None:
        self._state = state
        self._registry = registry
        self._switching = switching

    def begin(self, master: Master) -> None:
        """Forget how far replicas followed the new master of an earlier failover."""
        for replica in master.replicas.values():
            replica.sync = SyncStep.NOT_ASKED

    def order(self, replica: Replica, address: Address | None, now: Millis) -> None:
        """Order ``replica`` to follow the server at ``address``, or to become a master; INFO is sent behind it."""
        self._switching.await_info(replica, now)
        self._state.emit(self._switching.role_change(replica, address), probe=True)

    def demote_old_master(self, master: Master, new: Address, now: Millis) -> None:
        """
        Make an old master that is still reachable, as after a forced failover or a hang, a replica of the new one.

        C Sentinels let it accept writes, which are lost, until it is converted ten seconds later.
        """
        if master.link.commands_up:
            host = new.announced(self._state.options.announce_hostnames)
            self._switching.await_info(master, now)
            self._state.emit(Reconfigure(master.link, host, new.port))
            self._switching.record_follow_order(master, new, now)

    def advance(self, master: Master, failover: Failover, now: Millis) -> bool:
        """
        Make the other replicas follow the new master, ``parallel-syncs`` at a time.

        :returns: whether the failover can be finished: all follow it, or it has timed out.
        """
        promoted = failover.promoted
        assert promoted is not None
        others = [replica for replica in master.replicas.values() if replica is not promoted]
        if promoted.is_down:
            # It is the published master already: finish, so that its own failover can begin.
            return True
        for replica in others:
            if now > deadlines.reconfiguration(replica, self._state.timings):
                self._state.announce("-slave-reconf-sent-timeout", replica)
                replica.sync = SyncStep.DONE
        busy = sum(1 for replica in others if replica.sync in (SyncStep.SENT, SyncStep.IN_PROGRESS))
        for replica in others:
            if replica.sync is SyncStep.NOT_ASKED and not may_be_ordered(self._state, self._registry, replica):
                replica.sync = SyncStep.DONE
            if busy >= master.options.parallel_syncs:
                break
            if replica.sync is SyncStep.NOT_ASKED and replica.link.commands_up:
                self._follow(replica, promoted, now)
                self._state.announce("+slave-reconf-sent", replica)
                busy += 1
        outstanding = [r for r in others if r.sync is not SyncStep.DONE and not r.is_down]
        if not outstanding:
            return True
        if now > deadlines.failover_state(master, failover):
            self._state.announce("+failover-end-for-timeout", master)
            for replica in others:
                if replica.sync is SyncStep.NOT_ASKED and replica.link.commands_up:
                    self._follow(replica, promoted, now)
                    self._state.announce("+slave-reconf-sent-be", replica)
            return True
        return False

    def _follow(self, replica: Replica, promoted: Replica, now: Millis) -> None:
        self.order(replica, promoted.address, now)
        self._switching.record_follow_order(replica, promoted.address, now)
        replica.sync = SyncStep.SENT
        replica.reconf_sent_at = now

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
