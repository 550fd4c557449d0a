"""
The guard ``fence-isolated``: writes to a master that only a minority of the Sentinels reaches are paused.

The others may have replaced such a master, or will soon; what it acknowledges meanwhile is thrown away when it is
demoted. This Sentinel holds its writes if all of these are true:

- The peers that have not answered for ``fence-after`` are as many as a failover needs. A majority answered before, so
  that a Sentinel that starts before the others does not hold writes.
- None of enough peers shows by a hello on the master itself, or sent to us, that it reaches what we reach. Right after
  the connections to the master are established, such hellos are awaited for a period.
- INFO of the master, requested after that, shows no replica that acknowledged writes within ``fence-after``.
- This Sentinel is not in TILT, can save its votes, and leads no failover.
- The server is Valkey, or Redis 7.0 or newer.

The order is a lease: ``CLIENT PAUSE WRITE`` with a timeout, renewed at half of it. It ends by ``CLIENT UNPAUSE`` when a
majority answers and its hellos have confirmed the address. If they name another address, the lease is kept until the
server is a replica, as it would execute the held writes otherwise. If this Sentinel dies, it ends by its timeout.

Peers do not report whether they reach a majority, and C Sentinels could not; a peer that answers delivers a new
configuration, so only the peers that do not answer count.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core import deadlines
from txsentinel.core.effects import PauseWrites, ResumeWrites
from txsentinel.core.fence_state import LEASE_LENGTH, LEASE_PERIOD, Isolation, LeaseEnd, WriteLease
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Server
from txsentinel.core.probing import Probing
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis

ISOLATED_PERIOD: Final[Millis] = 250
"""Interval of evaluations while a majority does not answer, or a lease is held."""

ACKNOWLEDGEMENT_PERIOD: Final[Millis] = 2_000
"""
Longest age of the last acknowledgement of a healthy replica, which sends one each second, as INFO shows it: that counts
the changes of the second between both.
"""

MAX_ANSWER_DELAY: Final[Millis] = 250
"""Time by which the answer of a master may be late before this Sentinel may itself be what was not reached."""

CONFIRMATION_PERIODS: Final = 5
"""Publish periods for which hellos of a majority that answers again are awaited, before the lease is ended anyway."""

MIN_VERSION: Final = 7
TOO_OLD: Final = "on servers before 7.0 a pause may not end by itself"
"""
Redis 6.2 has one pause for CLIENT PAUSE and FAILOVER and never forgets its end, so after a FAILOVER a pause with a
timeout lasts until CLIENT UNPAUSE. Older servers have no pause of writes.
"""

NOT_REPEATED: Final = frozenset({LeaseEnd.FAILOVER, LeaseEnd.SERVER_BUSY})
"""
Ends after which CLIENT UNPAUSE is not sent again, or for ``SERVER_BUSY`` not at all: it could end the pause of a
hand-over.
"""


class Fencing:
    """Orders, renews and ends leases. Never called in TILT: a lease then ends by its timeout."""

    def __init__(self, state: SentinelState, probing: Probing) -> None:
        self._state = state
        self._probing = probing

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Apply the rules to a master, or to a former master whose writes are held."""
        lease = instance.link.lease
        if lease is not None and now > lease.until:
            # The server has ended the pause by itself. To begin another one, everything is checked again.
            instance.link.lapsed = instance.isolation if lease.ending is None and isinstance(instance, Master) else None
            lease = instance.link.lease = None
        if isinstance(instance, Master):
            if instance.options.guards.fence_isolated or lease is not None:
                self._evaluate_master(instance, now)
        elif lease is not None and isinstance(instance, Server):
            self._evaluate_former(instance, lease, now)

    def next_due(self, instance: Instance, now: Millis) -> Millis:
        """Return when :meth:`evaluate` must be called even if nothing else happens."""
        if instance.link.lease is not None:
            return now + ISOLATED_PERIOD
        if not isinstance(instance, Master) or not instance.options.guards.fence_isolated:
            return deadlines.NEVER
        delay = instance.options.guards.fence_delay(instance.down_after)
        quarter = max(delay // 4, 1)
        if instance.isolation is not None:
            return now + min(quarter, ISOLATED_PERIOD)
        due = now + quarter
        for peer in instance.peers.values():
            silent_until = deadlines.silence(peer.link, delay)
            if now <= silent_until < due:
                due = silent_until + 1
        return due

    def concerns(self, server: Server) -> bool:
        """Whether INFO of ``server`` must be evaluated at once."""
        return server.link.lease is not None or (isinstance(server, Master) and server.isolation is not None)

    def paused(self, link: InstanceLink, now: Millis) -> None:
        """Handle that the server has paused its writes."""
        if link.lease is not None:
            link.lease.until = now + LEASE_LENGTH

    def pause_refused(self, link: InstanceLink) -> None:
        """Handle that the server refused to pause its writes: it is not ordered again on this connection."""
        link.lease = None
        link.pause_refused_on = link.commands_since

    def resumed(self, link: InstanceLink) -> None:
        """Handle that the server answered the order to end the pause."""
        if link.lease is not None and link.lease.ending is not None:
            link.lease = None

    def discard(self, master: Master) -> None:
        """End the leases of the servers of ``master``, which is about to be removed or reset."""
        master.isolation = None
        master.majority_answered = False
        for server in (master, *master.replicas.values()):
            lease = server.link.lease
            if lease is not None:
                self._end(server, lease, LeaseEnd.DISCARDED)

    def _evaluate_master(self, master: Master, now: Millis) -> None:
        self._observe(master, now)
        lease = master.link.lease
        end = self._end_reason(master, lease, now)
        if end is None and self._may_order(master, lease, now):
            self._hold(master, lease, now)
        elif end is not None and lease is not None:
            self._end(master, lease, end)

    def _evaluate_former(self, server: Server, lease: WriteLease, now: Millis) -> None:
        """Keep the lease of a server that is not the master any more until it reports to be a replica."""
        if lease.ending is not None:
            self._end(server, lease, lease.ending)
        elif server.info_refreshed_at is not None and server.role_reported is Role.REPLICA:
            self._end(server, lease, LeaseEnd.DEMOTED)
        elif not server.master.options.guards.fence_isolated:
            self._end(server, lease, LeaseEnd.SWITCHED_OFF)
        elif self._state.storage_failing:
            self._end(server, lease, LeaseEnd.NOT_SAVED)
        elif server.master.failover is None or server.master.failover.promoted is not server:
            self._hold(server, lease, now)
        else:
            self._end(server, lease, LeaseEnd.FAILOVER)

    def _observe(self, master: Master, now: Millis) -> None:
        """Record whether enough peers do not answer to fail over without us, whether a majority does, or the master."""
        link = master.link
        late = min(master.options.guards.fence_delay(master.down_after) // 4, 2 * MAX_ANSWER_DELAY)
        quiet = now - link.available_at > self._state.timings.ping_period + MAX_ANSWER_DELAY
        if quiet or link.silent_for(now) > late:
            link.seen_silent_at = now
        silent = sum(not self._answers(peer, master, now) for peer in master.peers.values())
        if silent >= max(master.majority, master.options.quorum):
            if master.isolation is None and master.majority_answered:
                master.isolation = Isolation(now, silent, master.voters)
            return
        master.isolation = None
        if not master.majority_answered:
            answering = (peer.link for peer in master.peers.values() if peer.link.commands_up)
            answered = sum(link.unanswered_ping_at is None for link in answering)
            master.majority_answered = answered + 1 >= master.majority

    def _answers(self, peer: Peer, master: Master, now: Millis) -> bool:
        """Whether ``peer`` has answered within ``fence-after``, or has shown by a hello that it reaches the master."""
        link = peer.link
        delay = master.options.guards.fence_delay(master.down_after)
        if self._state.received_until(now) <= deadlines.silence(link, delay):
            return True
        # Hellos are less frequent than PING. One that arrived after the link fell silent shows another path.
        recent = now - peer.near_hello_at <= max(delay, self._hello_period)
        return recent and peer.near_hello_at > (link.unanswered_ping_at or link.available_at)

    def _end_reason(self, master: Master, lease: WriteLease | None, now: Millis) -> LeaseEnd | None:
        """Return why writes must not be held; ``None`` if they may."""
        failover = master.failover
        if not master.options.guards.fence_isolated:
            return LeaseEnd.SWITCHED_OFF
        if self._state.storage_failing:
            return LeaseEnd.NOT_SAVED
        if failover is not None and not failover.republish:
            return LeaseEnd.FAILOVER
        if not master.replicas:
            return LeaseEnd.NO_REPLICA
        if master.role_reported is not Role.MASTER:
            return LeaseEnd.DEMOTED
        if master.server_failover or master.restart is not None or master.data_missing_since is not None:
            return LeaseEnd.SERVER_BUSY
        if master.isolation is None:
            held = lease is not None and lease.ending is None and not self._is_confirmed(master, lease, now)
            return None if held else LeaseEnd.MAJORITY_ANSWERS
        if lease is not None:
            lease.answering_since = None
        if self._has_fresh_info(master) and self._is_acknowledged(master):
            return LeaseEnd.REPLICA_ACKNOWLEDGES
        return None

    def _is_confirmed(self, master: Master, lease: WriteLease, now: Millis) -> bool:
        """Whether hellos of a majority that answers again have shown no other address, or have been awaited enough."""
        if lease.answering_since is None:
            lease.answering_since = now
        since = lease.answering_since
        # The evaluation that notices the answers may be later than the first hello.
        confirmed = sum(peer.confirmed_at >= since - ISOLATED_PERIOD for peer in master.peers.values())
        limit = CONFIRMATION_PERIODS * self._state.timings.publish_period
        return confirmed + 1 >= master.majority or now - since > limit

    @staticmethod
    def _has_fresh_info(master: Master) -> bool:
        """Whether INFO that was requested after the majority fell silent has arrived."""
        isolation, sent_at, refreshed_at = master.isolation, master.info_sent_at, master.info_refreshed_at
        if isolation is None or sent_at is None or refreshed_at is None:
            return False
        return isolation.since <= sent_at <= refreshed_at

    @staticmethod
    def _is_acknowledged(master: Master) -> bool:
        """Whether the last INFO shows a replica that acknowledged within ``fence-after``, as far as seconds show it."""
        delay = master.options.guards.fence_delay(master.down_after)
        lag = master.least_lag
        return lag is not None and 1000 * lag <= max(delay, ACKNOWLEDGEMENT_PERIOD)

    def _may_order(self, master: Master, lease: WriteLease | None, now: Millis) -> bool:
        """Whether the lease may be ordered or renewed now; to order one, INFO is requested first."""
        link = master.link
        if not link.commands_up or master.sdown_since is not None or link.pause_refused_on == link.commands_since:
            return False
        if lease is not None and lease.ending is None:
            return True
        if not self._has_awaited_hellos(link, now) and not self._has_lapsed(master):
            return False
        if not self._has_fresh_info(master):
            self._probing.request_info(master, now)
            return False
        if master.major_version is None or master.major_version < MIN_VERSION:
            link.pause_refused_on = link.commands_since
            self._state.note(Level.WARNING, f"Writes to {master.name} are not paused: {TOO_OLD}")
            return False
        # A PUBLISH without an answer may be held by a pause; the order would wait behind it and be executed too late.
        return master.hello_sent_at is None

    @staticmethod
    def _has_lapsed(master: Master) -> bool:
        """
        Whether a lease ended only because the connection was rejected, and no majority has answered since it began.

        A Sentinel that is rejected is not cut off itself, so the connections to others would not return at that time.
        """
        link = master.link
        failure = link.connect_failure
        rejected = failure is not None and failure.failure_class in (FailureClass.REFUSED, FailureClass.RESET)
        return rejected and link.lapsed is not None and link.lapsed is master.isolation

    def _has_awaited_hellos(self, link: InstanceLink, now: Millis) -> bool:
        """
        Whether hellos of peers that reach the server, and acknowledgements, would have arrived since it can be reached.

        When a partition ends, this connection may return before those to the peers. When a server that was stopped
        continues, its replicas have not acknowledged yet.
        """
        reached_at = max(
            link.commands_since or now, link.pubsub_since or 0, link.outage_until or 0, link.seen_silent_at
        )
        return now - reached_at > self._hello_period

    @property
    def _hello_period(self) -> Millis:
        """The period within which each peer that reaches a server publishes a hello there, with some tolerance."""
        period = self._state.timings.publish_period
        return period + period // 4

    def _hold(self, server: Server, lease: WriteLease | None, now: Millis) -> None:
        link = server.link
        if not link.commands_up:
            return
        if lease is None or lease.ending is not None:
            lease = link.lease = WriteLease(now, now, now + LEASE_LENGTH)
            self._state.note(
                Level.WARNING,
                f"Writes to {server.master.name} at {server.address.joined()} are paused: {server.master.isolation}, "
                "and no replica acknowledges writes, so what it accepts may be lost",
            )
        elif now - lease.ordered_at < LEASE_PERIOD and not self._was_lost(link, lease):
            return
        lease.ordered_at, lease.ordered_on = now, link.commands_since
        lease.until = max(lease.until, now + LEASE_LENGTH)
        self._state.emit(PauseWrites(link, LEASE_LENGTH), probe=True)

    def _end(self, server: Server, lease: WriteLease, end: LeaseEnd) -> None:
        """End a lease; if the connection is lost before the answer, the order is repeated on the next one."""
        link = server.link
        if lease.ending is None:
            text = f"Writes to {server.master.name} at {server.address.joined()} are not paused any more: {end.value}"
            self._state.note(Level.WARNING, text)
        elif lease.ending in NOT_REPEATED or not self._was_lost(link, lease):
            return
        lease.ending = lease.ending or end
        if lease.ending is LeaseEnd.SERVER_BUSY:
            link.lease = None
        elif link.commands_up:
            lease.ordered_on = link.commands_since
            self._state.emit(ResumeWrites(link), probe=True)

    @staticmethod
    def _was_lost(link: InstanceLink, lease: WriteLease) -> bool:
        """Whether there is another connection than the one on which the last order was sent."""
        return link.commands_up and link.commands_since != lease.ordered_on
