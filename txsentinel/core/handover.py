"""
The coordinated failover: a healthy master hands its role to a replica without losing a write.

The servers do it themselves, by FAILOVER TO; a Sentinel that was elected for it orders it, with writes
held meanwhile, and sees to it that they are held no longer than needed, however it ends.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import CallOffHandOver, HandOver, SettleHandOver
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Failover, FailoverState, Master, Server
from txsentinel.core.state import SentinelState
from txsentinel.events import Level
from txsentinel.timings import Millis

LEAST_TIME: Final[Millis] = 1_000
"""A hand-over that has less than this left of failover-timeout is not begun."""

LOOK_PERIOD: Final[Millis] = 50
"""INFO interval of the replica that is taking over: writes are held until it is seen as master."""


def check_handover_supported(master: Master) -> None:
    """
    Can the master hand over its role?

    :raises CommandError: if its INFO shows no sign of the FAILOVER command.
    """
    if master.server_failover is None:
        raise CommandError("NOGOODPRIMARY Primary does not support FAILOVER command")


class Handovers:
    """Orders, settles and calls off hand-overs."""

    def __init__(self, state: SentinelState) -> None:
        self._state = state

    def time_left(self, master: Master, failover: Failover, now: Millis) -> Millis:
        """How long the servers may take from now on, in milliseconds; 0 if it is too late to begin."""
        left = master.options.failover_timeout - (now - failover.entered_at)
        return left if left >= LEAST_TIME else 0

    def order(self, master: Master, failover: Failover, now: Millis) -> None:
        """Tell the old master, which must be connected, to hand over."""
        assert failover.promoted is not None
        address = failover.promoted.address
        host = address.announced(self._state.options.announce_hostnames)
        left = self.time_left(master, failover, now)
        self._state.emit(HandOver(master.link, host, address.port, left), probe=True)
        failover.handover_ordered = True

    def settle(self, master: Master, promoted: Server) -> None:
        """The replica has taken over: let both write their configuration, drop clients, and hold writes no more."""
        for server in (master, promoted):
            if server.link.commands_up:
                self._state.emit(SettleHandOver(server.link))

    def call_off(self, master: Master, failover: Failover) -> None:
        """It came to nothing: writes go on at the old master."""
        if failover.handover_ordered and master.link.commands_up:
            self._state.emit(CallOffHandOver(master.link), probe=True)

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
