"""
The monitoring half: what is sent to whom and how often, and what an answer proves.

PING, INFO and hello each have a period; none is sent again while its last one is unanswered, except
PING, which is what notices silence. Any answer that is not an error proves that an instance lives,
so a PING goes out only when nothing else was heard for a period.
"""

from __future__ import annotations

import re
from typing import Final

from txsentinel.core.effects import KillScript, Ping, PublishHello, RequestInfo, RequestRole
from txsentinel.core.handover import CHECK_INTERVAL, publishing_would_hang
from txsentinel.core.instances import FailoverState, Instance, Master, Peer, Replica, Role, Server, SyncStep
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis

ACCEPTABLE = (b"PONG", b"LOADING", b"MASTERDOWN")
"""Answers to PING that show a server to be up, by their beginning."""

SYNC_INFO_PERIOD: Millis = 200
"""INFO interval of a replica that was told to follow the new master, so that the next one's turn comes soon."""


AGREEING = 5
"""
How many times rarer hellos go to a peer of our kind directly that agrees with us. It hears us through every server as
well; news goes to it at once; and with a thousand masters these hellos are a third of all that is said.
"""

ROLE_PERIOD: Millis = 1_000
"""
How often a master is asked for its role, at the next visit and as long as few instances are watched. Its INFO comes ten
times more rarely, and until then a master that was told to follow its own replica passes for one.
"""

MAX_WITH_ROLE = 200
"""Instances that may be watched, of all kinds, while masters are asked for their role."""

HELLO_POSTPONED: Millis = 500
"""How long a hello waits that a server would not take now."""

_ERROR_CODE: Final = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}(?![^ \t])")


def error_code(reply: bytes) -> str:
    """The code that an error reply begins with, such as ``NOPERM``; ``an error`` if it has none."""
    found = _ERROR_CODE.match(reply)
    return found[0].decode("ascii") if found else "an error"


class Probing:
    """Keeps the probes going and the evidence up to date."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def evaluate(self, instance: Instance, now: Millis) -> Millis:
        """Send what is due to one instance; when the next probe of it will be due."""
        link = instance.link
        next_due = now + self.info_interval(instance)
        if not self.has_capacity(link):
            return next_due
        if isinstance(instance, Server):
            due = self._info_due(instance)
            if due <= now:
                self.request_info(instance, now)
                due = self._info_due(instance)
            if due < next_due:
                next_due = due
        if isinstance(instance, Master):
            self._request_role(instance, now)
        if self._probes(instance):
            due = self._ping_due(link)
            if due <= now:
                self._ping(link, now)
                due = self._ping_due(link)
            if due < next_due:
                next_due = due
        due = self._hello_due(instance)
        if due <= now:
            self.publish_hello(instance, now)
            due = self._hello_due(instance)
        return due if due < next_due else next_due

    def has_capacity(self, link: InstanceLink) -> bool:
        """Is it connected, and does it owe us few enough answers to be asked more?"""
        most = self._state.limits.pending_commands
        return link.commands_since is not None and link.pending_commands < most * len(link.instances)

    def info_interval(self, instance: Instance) -> Millis:
        """How often an instance is looked at in any case: no down clock that starts later can run out before."""
        period, down_after = self._hello_period(instance), instance.link.shortest_down_after
        return period if period < down_after else down_after

    def next_due(self, instance: Instance) -> Millis:
        """When the next probe of a connected instance is due."""
        due = self._hello_due(instance)
        if self._probes(instance):
            due = min(due, self._ping_due(instance.link))
        return min(due, self._info_due(instance)) if isinstance(instance, Server) else due

    @staticmethod
    def _probes(instance: Instance) -> bool:
        """Is it this instance that has the link probed? One PING does for all who share it."""
        instances = instance.link.instances
        return len(instances) == 1 or next(iter(instances)) is instance

    def request_info(self, server: Server, now: Millis) -> None:
        """Ask for INFO now, unless an answer is already on its way."""
        if server.link.commands_up and server.info_requested_at is None:
            server.info_requested_at = server.info_sent_at = now
            if server.link.silent_since is None:
                server.link.silent_since = now
            self._state.emit(RequestInfo(server.link), probe=True)

    def _request_role(self, master: Master, now: Millis) -> None:
        """
        Ask a master for its role, unless it refuses that or has not answered yet.

        The answer is no evidence of anything: if it is news, INFO is asked for, and that is believed.
        """
        if self._state.instances >= MAX_WITH_ROLE or master.role_refused or master.role_requested:
            return
        if now - master.role_sent_at >= ROLE_PERIOD * 9 // 10:
            master.role_sent_at, master.role_requested = now, True
            self._state.emit(RequestRole(master.link), probe=True)

    def role_answered(self, link: InstanceLink, role: bytes | None, now: Millis, *, refused: bool) -> None:
        """ROLE was answered; ``role`` is its first word, ``None`` if it has none."""
        for master in link.instances:
            if isinstance(master, Master):
                master.role_requested = False
                master.role_refused = refused
                if role in (b"master", b"slave") and role != master.role_reported.value.encode():
                    self.request_info(master, now)

    def publish_hello(self, instance: Instance, now: Millis) -> None:
        """Send our hello through, or to, an instance; it waits until the address it tells of is durable."""
        link = instance.link
        if isinstance(instance, Server) and publishing_would_hang(instance):
            instance.hello_published_at = now - self._state.timings.publish_period + HELLO_POSTPONED
            return
        if link.commands_up and not self._held_back(instance, now):
            instance.hello_sent_at = now
            payload = self._state.hello(instance.master, link.local_ip)
            self._state.emit(PublishHello(link, instance, payload))

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """A connection is established: PING and INFO at once, as it may be another process that answers now."""
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
                if isinstance(instance, Replica):
                    # It may have been configured, or we may log in, differently now.
                    instance.promotion_refusal = None

    def link_down(self, link: InstanceLink, kind: LinkKind, now: Millis) -> None:
        """A connection is lost or could not be made: the down clock of an instance without commands runs."""
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
        An answer to PING: ``reply`` is the text of a status or an error, ``None`` for any other type.

        LOADING and MASTERDOWN count as up. BUSY does not, and has the script killed once per S_DOWN.
        """
        if kind is LinkKind.COMMANDS:
            link.silent_since = None
        link.last_reply_at = now
        if reply is None:
            return
        if reply.startswith(ACCEPTABLE):
            link.ping_refused = False
            link.available(now)
            if reply.startswith(b"PONG"):
                for instance in link.instances:
                    if isinstance(instance, Server):
                        instance.rebooting_since = None
            return
        # A server says MISCONF to PING on purpose, so that it is replaced although it runs.
        link.ping_refused = True
        link.ping_error = error_code(reply)
        if reply.startswith(b"BUSY"):
            self._kill_scripts(link)

    def alive(self, link: InstanceLink, now: Millis) -> None:
        """An answer other than an error came, to whatever it was that we asked."""
        link.silent_since = None
        link.last_reply_at = now
        self.heard(link, now)

    def heard(self, link: InstanceLink, now: Millis) -> None:
        """The instance did something on its own, such as delivering a message: it lives."""
        if not link.ping_refused:
            link.available(now)

    def _ping(self, link: InstanceLink, now: Millis) -> None:
        # A server that holds PUBLISH back (CLIENT PAUSE WRITE) answers nothing behind it on that
        # connection. It is alive all the same, so the second PING goes by the subscription as well.
        stuck = link.silent_since is not None and link.ping_sent_at is not None
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
            # Unanswered, it goes out again while there is time for that to help.
            period = min(period, down_after)
            again = period // 2
        if link.ping_sent_at is None:
            return link.last_reply_at + period
        if link.ping_refused:
            # Only PONG makes up for that, so no other answer puts the next PING off.
            return link.ping_sent_at + period
        answered, unanswered = link.last_reply_at + period, link.ping_sent_at + again
        return answered if answered > unanswered else unanswered

    def _info_due(self, server: Server) -> Millis:
        timings = self._state.timings
        if server.info_refreshed_at is None:
            period, since = 0, max(server.created_at, server.info_not_before)
        else:
            period, since = self.info_period(server), server.info_refreshed_at
        if server.info_requested_at is not None:
            # Unanswered: PING is what notices silence; asking again would only pile up.
            return server.info_requested_at + 10 * timings.info_period
        due = since + period
        if server.info_sent_at is not None and (server.link.commands_since or 0) < server.info_sent_at:
            # A server that refuses INFO is not asked in a tight loop; a new connection is asked at once.
            due = max(due, server.info_sent_at + min(period or timings.fast_info_period, timings.fast_info_period))
        return due

    def info_period(self, server: Server) -> Millis:
        """How often a server is asked for INFO: faster while what it says decides something."""
        timings = self._state.timings
        failover = server.master.failover
        if failover is not None and failover.handover_ordered and failover.state is FailoverState.WAIT_PROMOTION:
            if server is failover.promoted or server is server.master:
                return CHECK_INTERVAL
        if isinstance(server, Replica):
            if server.sync in (SyncStep.SENT, SyncStep.IN_PROGRESS):
                return SYNC_INFO_PERIOD
            master = server.master
            urgent = master.odown_since is not None or master.failover is not None or server.master_link_down_for
            urgent = urgent or master.role_reported is not Role.MASTER
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
        return AGREEING * period if isinstance(instance, Peer) and instance.acknowledges else period

    def _held_until(self, instance: Instance) -> Millis:
        if isinstance(instance, Peer) and instance.is_txsentinel:
            return 0
        return instance.master.hello_not_before

    def _held_back(self, instance: Instance, now: Millis) -> bool:
        return self._held_until(instance) > now


def _follows_other_master(replica: Replica) -> bool:
    """Does it follow somebody else than the master it is filed under?"""
    host, address = replica.master_host, replica.master.address
    if host == address.ip and replica.master_port == address.port:
        return False
    return host is not None and not replica.follows(address)


def needs_hello(master: Master) -> list[Instance]:
    """Everybody through whom, or to whom, a hello about ``master`` is sent."""
    return [*master.peers.values(), master, *master.replicas.values()]
