"""
The coordinated failover: a healthy master hands its role to a replica without losing a write.

The servers do it themselves, by FAILOVER TO; a Sentinel that was elected for it orders it, with writes
held meanwhile, and sees to it that they are held no longer than needed, however it ends.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import AbortHandOver, FinishHandOver, HandOver
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Failover, FailoverState, Master, Role, Server
from txsentinel.core.link import HandOverEnd, InstanceLink, LinkKind
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis

MIN_HAND_OVER_TIME: Final[Millis] = 1_000
"""A hand-over that has less than this left of failover-timeout is not begun."""

CHECK_INTERVAL: Final[Millis] = 50
"""INFO interval of both servers of a hand-over: writes are held until the replica is seen as master."""

MAX_PAUSE: Final[Millis] = 3_000
"""
How long CLIENT PAUSE holds writes on the old master if we cannot end it: we died, stand still, or cannot save.

The server holds them anyway until its FAILOVER has ended, however long that takes. The pause only covers what comes
after that, until clients are disconnected; whoever writes after it has run out is refused by a replica.
"""


def check_handover_supported(master: Master) -> None:
    """
    Can the master hand over its role?

    :raises CommandError: if its INFO shows no sign of the FAILOVER command, or has not come yet.
    """
    if master.server_failover is None and master.info_refreshed_at is None:
        raise CommandError("NOGOODPRIMARY Primary has not answered INFO yet")
    if master.server_failover is None:
        raise CommandError("NOGOODPRIMARY Primary does not support FAILOVER command")


class Handovers:
    """Orders, settles and calls off hand-overs."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def time_left(self, master: Master, failover: Failover, now: Millis) -> Millis:
        """How long the servers may take from now on, in milliseconds; 0 if it is too late to begin."""
        left = master.options.failover_timeout - (now - failover.entered_at)
        return left if left >= MIN_HAND_OVER_TIME else 0

    def order(self, master: Master, failover: Failover, now: Millis) -> bool:
        """
        Tell the old master to hand over; false if that must wait.

        A hello that it has not answered may be held by a pause of somebody else. The order would be held behind it,
        and carried out when nobody waits for it any more.
        """
        assert failover.promoted is not None
        if not master.link.commands_up or master.hello_sent_at is not None:
            return False
        address = failover.promoted.address
        host = address.announced(self._state.options.announce_hostnames)
        left = self.time_left(master, failover, now)
        self._state.emit(HandOver(master.link, host, address.port, left, min(left, MAX_PAUSE)), probe=True)
        failover.handover_ordered = True
        return True

    def finish(self, master: Master, promoted: Server) -> None:
        """The replica has taken over: let both write their configuration, drop clients, and hold writes no more."""
        for server in (master, promoted):
            self._end(server.link, HandOverEnd.FINISH)

    def abort(self, master: Master, failover: Failover) -> None:
        """It came to nothing: writes go on at the old master."""
        if failover.handover_ordered:
            self._end(master.link, HandOverEnd.CALL_OFF)

    def link_up(self, link: InstanceLink, kind: LinkKind) -> None:
        """A connection is there again: order once more what the last one may have taken along."""
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
        """Has the server ended its FAILOVER, and is still the master? By an INFO that was sent after the order."""
        ordered_at, sent_at, refreshed_at = failover.promotion_sent_at, master.info_sent_at, master.info_refreshed_at
        if ordered_at is None or sent_at is None or refreshed_at is None or not ordered_at < sent_at <= refreshed_at:
            return False
        if master.role_reported is not Role.MASTER or master.server_failover is not False:
            return False
        self._state.note(Level.WARNING, f"{master.name} did not hand over: it ended its FAILOVER and is still master")
        return True

    def refused(self, master: Master, command: str, error: str) -> bool:
        """The master refused ``command`` of the hand-over; true if the failover must be given up for that."""
        failover = master.failover
        if failover is None or not failover.coordinated or failover.state is not FailoverState.WAIT_PROMOTION:
            return False
        self._state.note(Level.WARNING, f"{master.name} cannot hand over: it answered {command} with {error}")
        return True


def publishing_would_hang(server: Server) -> bool:
    """
    Would a PUBLISH to ``server`` wait behind the pause of writes, and every PING behind it?

    So it is with a server in a FAILOVER of its own, and with the old master of a coordinated failover
    from its election on.
    """
    if server.server_failover:
        return True
    failover = server.failover if isinstance(server, Master) else None
    return (
        failover is not None
        and failover.coordinated
        and failover.state
        in (
            FailoverState.SEND_SLAVEOF_NOONE,
            FailoverState.WAIT_PROMOTION,
        )
    )
