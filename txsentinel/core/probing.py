"""
Monitoring: when PING, INFO, ROLE and hellos are sent, and what their replies show about availability.

PING, INFO and hello each have a period. None is sent again while the last one is unanswered, except PING, which detects
silence. Any reply that is not an error shows that an instance is alive, so PING is sent only if nothing else arrived
for a period.
"""

from __future__ import annotations

import re
from typing import Final

from txsentinel.core.alignment import CYCLE, early_by, is_in_slot
from txsentinel.core.effects import KillScript, Ping, PublishHello, RequestInfo, RequestRole
from txsentinel.core.failover_state import FailoverState, SyncStep
from txsentinel.core.fence_state import LEASE_PERIOD
from txsentinel.core.handover import CHECK_INTERVAL, publishing_would_hang
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica, Server
from txsentinel.core.link import LinkKind
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis

ACCEPTABLE = (b"PONG", b"LOADING", b"MASTERDOWN")
"""Beginnings of replies to PING that show a server to be up."""

SYNC_INFO_PERIOD: Millis = 200
"""INFO interval of a replica that was ordered to follow the new master, so that the next one can be ordered soon."""


RESTART_INFO_PERIOD: Millis = 50
"""INFO interval of a group whose master restarted, while it is judged whether the master has its data."""

ACKNOWLEDGED_FACTOR = 5
"""
Factor by which the period of direct hellos is longer for a peer that acknowledges our hellos. It also receives them
through every server, and changes are sent to it at once. With a thousand masters, direct hellos would otherwise be a
third of all traffic.
"""

ROLE_PERIOD: Millis = 1_000
"""
Interval of ROLE to masters, as long as few instances are monitored. INFO is ten times less frequent; without ROLE, a
master that was ordered to follow its own replica would be taken for a master for that long.
"""

MAX_WITH_ROLE = 200
"""Maximum number of monitored instances of all kinds with which ROLE is sent."""

MIN_PROOF_INTERVAL: Final[Millis] = 100
"""Shortest interval of INFO to replicas while it is needed to prove that their master is alive."""

HELLO_RETRY_DELAY: Millis = 500
"""How long a hello is delayed that a server would not execute now."""

_ERROR_CODE: Final = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}(?![^ \t])")


def error_code(reply: bytes) -> str:
    """Return the code of an error reply, such as ``NOPERM``; ``an error`` if it has none."""
    found = _ERROR_CODE.match(reply)
    return found[0].decode("ascii") if found else "an error"


class Probing:
    """Sends probes, and records the evidence of availability."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def evaluate(self, instance: Instance, now: Millis) -> Millis:
        """
        Send the probes of ``instance`` that are due; return when its next probe will be due.

        In the slot of the instance, those that are due before the next slot are sent as well.
        """
        link, timings = instance.link, self._state.timings
        next_due = now + self.info_interval(instance)
        if not self.has_capacity(link):
            return next_due
        in_slot = is_in_slot(instance, now, self._state)
        if isinstance(instance, Server):
            due = self._info_due(instance)
            if due <= now or (in_slot and due - now < CYCLE and self._may_be_early(instance, due, now)):
                self.request_info(instance, now)
                due = self._info_due(instance)
            if due < next_due:
                next_due = due
        if isinstance(instance, Master):
            self._request_role(instance, now)
        if self._probes(instance):
            due = self._ping_due(link)
            if due <= now or (in_slot and due < now + early_by(due - (link.ping_sent_at or due))):
                self._ping(link, now)
                due = self._ping_due(link)
            if due < next_due:
                next_due = due
        due = self._hello_due(instance)
        if due <= now or (in_slot and due < now + early_by(timings.publish_period)):
            self.publish_hello(instance, now)
            due = self._hello_due(instance)
        return due if due < next_due else next_due

    def _may_be_early(self, server: Server, due: Millis, now: Millis) -> bool:
        """Whether INFO that is due soon may be sent in the slot of ``server``; the first one is never early."""
        return server.info_refreshed_at is not None and due - now < early_by(self.info_period(server))

    def has_capacity(self, link: InstanceLink) -> bool:
        """Whether the link is connected and has fewer unanswered commands than the limit."""
        maximum = self._state.limits.pending_commands
        return link.commands_since is not None and link.pending_commands < maximum * len(link.instances)

    def info_interval(self, instance: Instance) -> Millis:
        """Return the maximum interval of evaluations, so that a new down clock cannot expire between two of them."""
        period, down_after = self._hello_period(instance), instance.link.shortest_down_after
        return period if period < down_after else down_after

    def next_due(self, instance: Instance) -> Millis:
        """Return when the next probe of a connected instance is due."""
        due = self._hello_due(instance)
        if self._probes(instance):
            due = min(due, self._ping_due(instance.link))
        return min(due, self._info_due(instance)) if isinstance(instance, Server) else due

    @staticmethod
    def _probes(instance: Instance) -> bool:
        """Whether ``instance`` sends the PINGs of its link, which serve all instances on it."""
        instances = instance.link.instances
        return len(instances) == 1 or next(iter(instances)) is instance

    def request_info(self, server: Server, now: Millis) -> None:
        """Send INFO now, unless one is unanswered or the link is down."""
        if server.link.commands_up and server.info_requested_at is None:
            server.info_requested_at = server.info_sent_at = now
            if server.link.silent_since is None:
                server.link.silent_since = now
            self._state.emit(RequestInfo(server.link), probe=True)

    def await_info(self, server: Server, now: Millis) -> None:
        """Record that an INFO is sent behind an order."""
        server.info_requested_at = now

    def info_answered(self, server: Server) -> None:
        """Record a reply to INFO, whatever it is."""
        server.info_requested_at = None

    def _request_role(self, master: Master, now: Millis) -> None:
        """
        Send ROLE to a master, unless it refuses that or has not answered yet.

        The reply itself changes nothing: if it differs from the last INFO, another INFO is requested.
        """
        if self._state.instances >= MAX_WITH_ROLE or master.role_refused or master.role_requested:
            return
        if now - master.role_sent_at >= ROLE_PERIOD * 9 // 10:
            master.role_sent_at, master.role_requested = now, True
            self._state.emit(RequestRole(master.link), probe=True)

    def role_answered(self, link: InstanceLink, role: bytes | None, now: Millis, *, refused: bool) -> None:
        """Handle a reply to ROLE; ``role`` is its first word, ``None`` if it has none."""
        for master in link.instances:
            if isinstance(master, Master):
                master.role_requested = False
                master.role_refused = refused
                if role in (b"master", b"slave") and role != master.role_reported.value.encode():
                    self.request_info(master, now)

    def publish_hello(self, instance: Instance, now: Millis) -> None:
        """Publish our hello on a server, or send it to a peer; the effect waits until its contents are durable."""
        link = instance.link
        if isinstance(instance, Server) and publishing_would_hang(instance):
            instance.hello_published_at = now - self._state.timings.publish_period + HELLO_RETRY_DELAY
            return
        if link.commands_up and not self._held_back(instance, now):
            instance.hello_sent_at = now
            payload = self._state.hello(instance.master, link.local_ip)
            self._state.emit(PublishHello(link, instance, payload))

    def publish_hello_soon(self, instance: Instance, now: Millis) -> None:
        """Have the next hello to ``instance`` due as soon as it may be sent."""
        instance.hello_published_at = min(instance.hello_published_at, now - self._state.timings.publish_period)

    def hello_answered(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """Handle a reply to our hello; one that was refused is repeated after half a period."""
        instance.hello_sent_at = None
        if accepted:
            instance.hello_published_at = now
            self.alive(link, now)
        else:
            link.silent_since = None
            instance.hello_published_at = now - self._state.timings.publish_period // 2

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """Handle an established connection: send PING and INFO at once, as another process may be listening now."""
        link.established(kind, now)
        if kind is LinkKind.PUBSUB:
            link.pubsub_active_at = now
            return
        link.local_ip = local_ip
        link.ping_sent_at = None
        link.ping_refused = False
        link.void_requests()
        self._ping(link, now)
        for instance in link.instances:
            if isinstance(instance, Server) and instance.info_not_before <= now:
                self.request_info(instance, now)

    def link_down(self, link: InstanceLink, kind: LinkKind, now: Millis) -> None:
        """Handle a lost connection or a failed attempt; without a command connection, the down clock runs."""
        was_up = link.since(kind) is not None
        link.broken(kind)
        if kind is LinkKind.PUBSUB:
            return
        if was_up:
            link.lost_at = now
        if link.unanswered_ping_at is None:
            link.unanswered_ping_at = now
        link.void_requests()

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """
        Handle a reply to PING: ``reply`` is the text of a status or an error, ``None`` for any other type.

        LOADING and MASTERDOWN count as up. BUSY does not; SCRIPT KILL is then sent once per S_DOWN.
        """
        if kind is LinkKind.COMMANDS:
            link.silent_since = None
        link.last_reply_at = now
        if reply is None:
            return
        if reply.startswith(ACCEPTABLE):
            if link.ping_refused:
                self._state.touch_link(link)
            link.ping_refused = False
            link.available(now)
            return
        # With MISCONF a server asks to be replaced although it is running.
        link.ping_refused = True
        link.ping_error = error_code(reply)
        if reply.startswith(b"BUSY"):
            self._kill_scripts(link)

    def alive(self, link: InstanceLink, now: Millis) -> None:
        """Handle a reply other than an error, to any command."""
        link.silent_since = None
        link.last_reply_at = now
        self.message_received(link, now)

    def message_received(self, link: InstanceLink, now: Millis) -> None:
        """Handle a sign of life that is no reply, such as a Pub/Sub message."""
        if not link.ping_refused:
            link.available(now)

    def _ping(self, link: InstanceLink, now: Millis) -> None:
        # A server that blocks a PUBLISH (CLIENT PAUSE WRITE) answers no later command on that connection, although it
        # is alive. The second PING is therefore sent on the Pub/Sub connection as well.
        stuck = link.silent_since is not None and link.silent_since < now and link.ping_sent_at is not None
        link.ping_sent_at = now
        if link.unanswered_ping_at is None:
            link.unanswered_ping_at = now
        if link.silent_since is None:
            link.silent_since = now
        self._state.emit(Ping(link, LinkKind.COMMANDS), probe=True)
        if stuck and link.pubsub_since is not None:
            self._state.emit(Ping(link, LinkKind.PUBSUB), probe=True)

    def _kill_scripts(self, link: InstanceLink) -> None:
        for instance in link.instances:
            if isinstance(instance, Server) and instance.sdown_since is not None and not instance.script_kill_sent:
                instance.script_kill_sent = True
                self._state.emit(KillScript(link), probe=True)

    def _ping_due(self, link: InstanceLink) -> Millis:
        period = self._state.timings.ping_period
        down_after = link.shortest_down_after
        if down_after > 3 * period:
            again = period
        else:
            # Repeat an unanswered PING before down-after-milliseconds has passed.
            period = min(period, down_after)
            again = period // 2
        if link.ping_sent_at is None:
            return link.last_reply_at + period
        if link.ping_refused:
            # Only PONG ends that, so other replies do not delay the next PING. If the refusal itself proves that the
            # server is alive, the next one must arrive before down-after-milliseconds has passed.
            return link.ping_sent_at + (again if link.has_configuration_fault else period)
        # While one is unanswered, what arrived before it was sent is no reason to wait.
        return link.ping_sent_at + (period if link.last_reply_at >= link.ping_sent_at else again)

    def _info_due(self, server: Server) -> Millis:
        timings = self._state.timings
        if server.info_refreshed_at is None:
            period, since = 0, max(server.created_at, server.info_not_before)
        else:
            period, since = self.info_period(server), server.info_refreshed_at
        if server.info_requested_at is not None:
            # PING detects silence; more INFO requests would only queue up.
            return server.info_requested_at + 10 * timings.info_period
        due = since + period
        if server.info_sent_at is not None and (server.link.commands_since or 0) < server.info_sent_at:
            # Limit the rate for a server that refuses INFO, except right after a reconnection.
            due = max(due, server.info_sent_at + min(period or timings.fast_info_period, timings.fast_info_period))
        return due

    def info_period(self, server: Server) -> Millis:
        """Return the INFO interval of a server: shorter while a decision depends on its INFO."""
        timings = self._state.timings
        failover = server.master.failover
        if failover is not None and failover.handover_ordered and failover.state is FailoverState.WAIT_PROMOTION:
            if server is failover.promoted or server is server.master:
                return CHECK_INTERVAL
        if server.link.lease is not None or (isinstance(server, Master) and server.isolation is not None):
            return min(LEASE_PERIOD // 4, timings.info_period)
        restart = server.master.restart
        if restart is not None and restart.judged_until is None and server is server.master:
            return SYNC_INFO_PERIOD
        if restart is not None and restart.judged_until is not None and restart.undecided:
            return min(RESTART_INFO_PERIOD, timings.info_period)
        if isinstance(server, Replica):
            if server.sync in (SyncStep.SENT, SyncStep.IN_PROGRESS):
                return SYNC_INFO_PERIOD
            master = server.master
            urgent = master.odown_since is not None or master.failover is not None or server.master_link_down_for
            urgent = urgent or master.role_reported is not Role.MASTER
            if master.link.has_configuration_fault:
                # Its INFO may be the only proof that the master is alive, so it is needed within ``down-after``.
                needed = max(master.options.down_after // 2, MIN_PROOF_INTERVAL)
                return min(timings.fast_info_period, timings.info_period, needed)
            if urgent or server.role_reported is not Role.REPLICA or _follows_other_master(server):
                return min(timings.fast_info_period, timings.info_period)
        elif isinstance(server, Master) and server.replicas_omitted:
            return SYNC_INFO_PERIOD
        return timings.info_period

    def _hello_due(self, instance: Instance) -> Millis:
        if instance.hello_sent_at is not None:
            return instance.hello_sent_at + 10 * self._state.timings.publish_period
        due = instance.hello_published_at + self._hello_period(instance)
        held = self._held_until(instance)
        return due if due > held else held

    def _hello_period(self, instance: Instance) -> Millis:
        period = self._state.timings.publish_period
        if isinstance(instance, Peer) and instance.is_txsentinel:
            # As ``Peer.acknowledges``, without the calls: this is evaluated most often of all.
            master = instance.of
            if master is not None and instance.acknowledged_epoch == master.config_epoch:
                return ACKNOWLEDGED_FACTOR * period
        return period

    def _held_until(self, instance: Instance) -> Millis:
        if isinstance(instance, Peer) and instance.is_txsentinel:
            return 0
        return instance.master.hello_not_before

    def _held_back(self, instance: Instance, now: Millis) -> bool:
        return self._held_until(instance) > now


def _follows_other_master(replica: Replica) -> bool:
    """Whether the replica follows another server than the master that it belongs to."""
    host, address = replica.master_host, replica.master.address
    if host == address.ip and replica.master_port == address.port:
        return False
    return host is not None and not replica.follows(address)


def needs_hello(master: Master) -> list[Instance]:
    """Return the instances to which hellos about ``master`` are sent, peers first."""
    return [*master.peers.values(), master, *master.replicas.values()]
