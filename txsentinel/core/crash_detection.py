"""
Detection of a crashed master by what kernels do when a process dies (``crash-failover``, off by default).

The evidence is complete if

- the other side closed or reset the established command connection,
- at least ``MIN_REFUSALS`` attempts to connect were refused since then and none failed in any other way, the last one
  at least ``crash-confirm`` after the loss, and
- each replica that can be reached has answered an INFO sent after the loss, none reports a live link to its master,
  unless that is another replica, and at least one lost its link at the time of the loss. A link that was down before
  proves nothing: replicas have none while they copy the data set, or while the master loads it. Nor does a server that
  never had one, such as the former master right after a failover, or a replica that was promoted: its link was ended
  by an order of another Sentinel, which may have judged a master that hangs.

The master is S_DOWN then, which peers learn when they ask. Agreement, election and promotion are the same as ever, so a
Sentinel that is wrong about a crash is outvoted like one that is wrong about silence. C Sentinels agree after
``down-after-milliseconds``; they vote without agreeing.

A timeout, an unreachable host, an attempt that is refused without a connection before, exhausted descriptors of our own
and everything in TILT are no evidence. An operator who restarts a master announces it by ``SENTINEL SET <name>
crash-failover off``; a server that reports a SHUTDOWN in progress by INFO is also exempt.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.crash_evidence import MIN_REFUSALS, CrashStep
from txsentinel.core.deadlines import NEVER
from txsentinel.core.instances import InstanceLink, Master, Replica
from txsentinel.core.link import LinkKind
from txsentinel.core.probing import Probing
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.model.events import Level
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis

ASK_INTERVAL: Final[Millis] = 50
"""Interval at which replicas are asked again while the evidence lacks only what they report."""

MAX_LINK_AGE: Final[Millis] = 2_000
"""How long before the Sentinel a replica may have lost its link to the master, as it reports that in whole seconds."""

ASK_PERIOD: Final[Millis] = 1_000
"""Period after the loss in which evidence is requested; after that, only what arrives anyway completes it."""


class CrashDetection:
    """Collects evidence, and requests what is missing."""

    def __init__(self, state: SentinelState, registry: Registry, probing: Probing, tilt: TiltGuard) -> None:
        self._state = state
        self._registry = registry
        self._probing = probing
        self._tilt = tilt

    def link_down(
        self, link: InstanceLink, was_up: bool, failure: FailureClass | None, error: str, now: Millis
    ) -> None:
        """
        Handle a lost command connection (``was_up``) or a failed attempt to connect.

        :param failure: its class; ``None`` if this Sentinel closed the connection.
        """
        for master in link.instances:
            if not isinstance(master, Master) or not master.options.guards.crash_failover:
                continue
            evidence = master.crash
            if self._tilt.active:
                evidence.discard()
            elif was_up:
                evidence.discard()
                if failure is FailureClass.RESET:
                    evidence.lost_at, evidence.loss = now, error
                    for replica in master.replicas.values():
                        self._probing.request_info(replica, now)
            elif evidence.lost_at is not None and evidence.confirmed_at is None:
                if failure is FailureClass.REFUSED:
                    evidence.refusals += 1
                    evidence.refused_at = now
                    self.advance(master, now)
                else:
                    evidence.discard()

    def link_up(self, link: InstanceLink) -> None:
        """Handle an established command connection: a process listens. A complete verdict ends with its first reply."""
        for master in link.instances:
            if isinstance(master, Master) and master.crash.confirmed_at is None:
                master.crash.discard()

    def shutdown_reported(self, master: Master, shutting_down: bool) -> None:
        """Handle an INFO of the master, with whether an operator is shutting it down."""
        master.crash.shutting_down = shutting_down

    def interrupted(self) -> None:
        """Discard all incomplete evidence: what arrived before and after a stop of this process does not add up."""
        for master in self._registry.masters.values():
            if master.crash.confirmed_at is None:
                master.crash.discard()

    def assess(self, master: Master) -> tuple[CrashStep, Replica | None]:
        """Return how complete the evidence is, with the replica that prevents or delays its completion."""
        evidence = master.crash
        if not master.options.guards.crash_failover:
            return CrashStep.DISABLED, None
        if evidence.lost_at is None:
            return CrashStep.NO_LOSS, None
        if evidence.confirmed_at is not None:
            return CrashStep.COMPLETE, None
        if evidence.shutting_down:
            return CrashStep.RESTARTING, None
        if evidence.refusals < MIN_REFUSALS:
            return CrashStep.AWAITING_REFUSALS, None
        if evidence.refused_at < evidence.lost_at + master.options.guards.crash_confirm:
            return CrashStep.AWAITING_CONFIRMATION, None
        if master.failover is not None and master.failover.promotion_sent_at is not None:
            # This Sentinel itself has ended the links of the replicas.
            return CrashStep.NO_REPLICA, None
        reachable = [each for each in master.replicas.values() if each.link.commands_up and not each.is_down]
        if not reachable:
            return CrashStep.NO_REPLICA, None
        for replica in reachable:
            if not _has_answered_since(replica, evidence.lost_at):
                return CrashStep.AWAITING_REPLICAS, replica
        for replica in reachable:
            if _has_live_link(replica, master):
                return CrashStep.REPLICA_CONNECTED, replica
        if not any(_has_lost_master(replica, evidence.lost_at) for replica in reachable):
            return CrashStep.NO_REPLICA, None
        return CrashStep.COMPLETE, None

    def advance(self, master: Master, now: Millis) -> None:
        """Complete the evidence, or request what is missing if that is due; in TILT only discard what is refuted."""
        evidence = master.crash
        if evidence.lost_at is None:
            return
        if master.link.available_at > evidence.lost_at or not master.options.guards.crash_failover:
            evidence.discard()
            return
        if evidence.confirmed_at is not None or self._tilt.active:
            return
        step, _ = self.assess(master)
        if step is CrashStep.COMPLETE:
            evidence.confirmed_at = now
            self._state.note(
                Level.WARNING,
                f"{master.name} at {master.address.joined()} has crashed: its connection was lost ({evidence.loss}) "
                f"{now - evidence.lost_at} ms ago, {evidence.refusals} attempts to connect were refused since then, "
                "and no replica has a link to it",
            )
            self._state.due.schedule(master, now)
        elif self.due(master) <= now:
            evidence.asked_at = now
            if step in (CrashStep.AWAITING_REFUSALS, CrashStep.AWAITING_CONFIRMATION):
                self._registry.reconnect(master.link, LinkKind.COMMANDS, "to confirm a crash")
            for replica in master.replicas.values():
                if not _has_answered_since(replica, evidence.lost_at) or _has_live_link(replica, master):
                    self._probing.request_info(replica, now)

    def due(self, master: Master) -> Millis:
        """Return when :meth:`advance` must be called even if nothing else happens."""
        evidence = master.crash
        if evidence.lost_at is None or evidence.confirmed_at is not None:
            return NEVER
        confirmation = evidence.lost_at + master.options.guards.crash_confirm
        if evidence.asked_at is None or evidence.asked_at < confirmation:
            return confirmation
        if evidence.asked_at >= evidence.lost_at + ASK_PERIOD:
            return NEVER
        return evidence.asked_at + ASK_INTERVAL


def _has_answered_since(replica: Replica, since: Millis) -> bool:
    """Whether an INFO that was sent to ``replica`` at ``since`` or later has been answered."""
    sent_at, refreshed_at = replica.info_sent_at, replica.info_refreshed_at
    if replica.info_requested_at is not None:
        return False
    return sent_at is not None and refreshed_at is not None and since <= sent_at <= refreshed_at


def _has_live_link(replica: Replica, master: Master) -> bool:
    """
    Whether ``replica`` reports a link to its master that is up.

    The address that it follows may be another one than that of ``master`` here, for example behind NAT or a proxy. Only
    a link to another replica of the group certainly is not one to ``master``.
    """
    if replica.role_reported is not Role.REPLICA or not replica.master_link_up:
        return False
    return not any(replica.follows(other.address) for other in master.replicas.values() if other is not replica)


def _has_lost_master(replica: Replica, lost_at: Millis) -> bool:
    """Whether ``replica``, which has answered since, lost its link to its master about when this Sentinel did."""
    if replica.linked_at is None or replica.linked_at < replica.replication_changed_at:
        # It has never been connected to this master, such as the former one right after a failover.
        return False
    refreshed_at = replica.info_refreshed_at
    if replica.role_reported is Role.MASTER or replica.master_link_up or refreshed_at is None:
        return False
    return 0 <= replica.master_link_down_for <= refreshed_at - lost_at + MAX_LINK_AGE
