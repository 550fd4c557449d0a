"""
The coordinated failover: a healthy master hands over its role to a replica without losing a write.

The servers do this by their own FAILOVER TO command. An elected Sentinel orders it with writes paused, and ends the
pause as soon as possible, whatever the outcome.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import AbortHandOver, FinishHandOver, HandOver
from txsentinel.core.errors import CommandError
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Failover, InstanceLink, Master, Server
from txsentinel.core.link import HandOverEnd, LinkKind
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.succession import successor
from txsentinel.core.switchover_state import WriteHold
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis

MIN_HAND_OVER_TIME: Final[Millis] = 1_000
"""A hand-over is not begun if less than this remains of ``failover-timeout``."""

CHECK_INTERVAL: Final[Millis] = 50
"""INFO interval of both servers of a hand-over, as writes are paused until the replica is seen as master."""

MAX_PAUSE: Final[Millis] = 3_000
"""
Timeout of CLIENT PAUSE on the old master, for when this Sentinel cannot end the pause: it died, hangs or cannot save.

The server itself pauses writes until its FAILOVER has ended. The timeout covers only the time after that, until
clients are disconnected. Writes after it has expired are refused, as the server is a replica then.
"""


def check_handover_supported(master: Master) -> None:
    """
    Check that the master supports a hand-over.

    :raises CommandError: if its INFO shows no support for the FAILOVER command, or has not arrived yet.
    """
    if master.server_failover is None and master.info_refreshed_at is None:
        raise CommandError("NOGOODPRIMARY Primary has not answered INFO yet")
    if master.server_failover is None:
        raise CommandError("NOGOODPRIMARY Primary does not support FAILOVER command")


class Handovers:
    """Orders, finishes and aborts hand-overs."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def time_left(self, master: Master, failover: Failover, now: Millis) -> Millis:
        """Return how long the servers may take from now on, in milliseconds; 0 if it is too late to begin."""
        left = master.options.failover_timeout - (now - failover.entered_at)
        return left if left >= MIN_HAND_OVER_TIME else 0

    def order(self, master: Master, failover: Failover, now: Millis) -> bool:
        """
        Order the old master to hand over; return whether the order was sent.

        It is not sent while a hello is unanswered. Its PUBLISH may be blocked by a pause that another client ordered;
        the order would be queued behind it, and be executed when this Sentinel no longer waits for it.
        """
        assert failover.promoted is not None
        if not master.link.commands_up or master.hello_sent_at is not None:
            return False
        address = failover.promoted.address
        host = address.announced(self._state.options.announce_hostnames)
        left = self.time_left(master, failover, now)
        pause, operation = min(left, MAX_PAUSE), failover.operation
        if operation is not None:
            left = min(left, operation.order.max_pause)
            operation.hold = WriteHold(now, now + left + pause, now + left)
        order = HandOver(master.link, host, address.port, left, pause, operation is not None)
        self._state.emit(order, probe=True)
        failover.handover_ordered = True
        return True

    def finish(self, master: Master, failover: Failover) -> None:
        """
        Finish a hand-over at both servers: rewrite their configuration, disconnect clients, unpause writes.

        If another Sentinel ordered it and died, only the old master still needs these orders.
        """
        assert failover.promoted is not None
        handed_over = master.server_failover is not None and successor(master) is failover.promoted
        if failover.coordinated or handed_over:
            self._end(master.link, HandOverEnd.FINISH)
        if failover.coordinated:
            self._end(failover.promoted.link, HandOverEnd.FINISH)

    def abort(self, master: Master, failover: Failover) -> None:
        """Abort a hand-over that was ordered, and unpause writes at the old master."""
        if failover.handover_ordered:
            self._end(master.link, HandOverEnd.ABORT)

    def link_up(self, link: InstanceLink, kind: LinkKind) -> None:
        """Handle a new connection: repeat the end of a hand-over, which may have been lost with the last one."""
        if kind is LinkKind.COMMANDS and link.handover_end is not None:
            self._end(link, link.handover_end)

    def _end(self, link: InstanceLink, end: HandOverEnd) -> None:
        link.handover_end = end
        if not link.commands_up:
            return
        if end is HandOverEnd.FINISH:
            self._state.emit(FinishHandOver(link))
        else:
            self._state.emit(AbortHandOver(link), probe=True)

    def has_failed(self, master: Master, failover: Failover) -> bool:
        """Whether an INFO requested after the order shows that the server ended its FAILOVER and is still master."""
        ordered_at, sent_at, refreshed_at = failover.promotion_sent_at, master.info_sent_at, master.info_refreshed_at
        if ordered_at is None or sent_at is None or refreshed_at is None or not ordered_at < sent_at <= refreshed_at:
            return False
        if master.role_reported is not Role.MASTER or master.server_failover is not False:
            return False
        self._state.note(Level.WARNING, f"{master.name} did not hand over: it ended its FAILOVER and is still master")
        return True

    def refused(self, master: Master, command: str, error: str) -> bool:
        """Handle that the master refused ``command`` of the hand-over; return whether the failover must be aborted."""
        failover = master.failover
        if failover is None or not failover.coordinated or failover.state is not FailoverState.WAIT_PROMOTION:
            return False
        self._state.note(Level.WARNING, f"{master.name} cannot hand over: it answered {command} with {error}")
        return True


def publishing_would_hang(server: Server) -> bool:
    """
    Whether a PUBLISH to ``server`` would be blocked by a pause of writes, and with it every later PING.

    This is the case for a server that executes its own FAILOVER command, for the old master of a planned failover from
    the selection of a replica on, and for a server whose writes this Sentinel or another one holds.
    """
    link = server.link
    if server.server_failover or link.lease is not None or link.demote_to is not None:
        return True
    if link.held_elsewhere_until is not None:
        return True
    failover = server.failover if isinstance(server, Master) else None
    return (
        failover is not None
        and failover.planned
        and failover.state
        in (
            FailoverState.SEND_SLAVEOF_NOONE,
            FailoverState.WAIT_PROMOTION,
        )
    )
