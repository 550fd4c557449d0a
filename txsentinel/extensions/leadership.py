"""
Which Sentinel of a group reports a failover, so that it is reported once.

The leader of the failover reports it. If that may be a C Sentinel, it is left to the Sentinel of our kind
with the lowest ID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from txsentinel.model.events import SentinelEvent
from txsentinel.model.history import ObserverRole, Outcome

if TYPE_CHECKING:
    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.history import FailoverRecord


class Leadership:
    """Which failovers this Sentinel has led, and whether it stands in for another leader."""

    def __init__(self, view: ISentinelView) -> None:
        self._view = view
        self._led: set[str] = set()
        """Names of masters whose latest failover this Sentinel led."""

    def observe(self, event: SentinelEvent) -> None:
        """Take note of an event; call this with each event, before anything else is asked about it."""
        if event.master is None:
            return
        if event.channel in ("+elected-leader", "+promoted-slave"):
            self._led.add(event.master)
        elif event.channel in ("+config-update-from", "-monitor"):
            self._led.discard(event.master)

    def leads(self, master: str) -> bool:
        """Whether this Sentinel led the latest failover of a master."""
        return master in self._led

    def switch_of(self, event: SentinelEvent) -> SentinelEvent | None:
        """
        Return the switch that follows a promotion by this Sentinel, if it gives clients the new address already.

        It publishes the switch itself at the end of the failover, when the other replicas follow the new master, while
        the other Sentinels publish it as soon as they receive the new configuration.

        :param event: one of ``+promoted-slave``, with ``slave <name> <host> <port> @ <master> <host> <port>``.
        """
        words = event.payload.split(" ")
        if event.master is None or len(words) < 8 or words[-4] != "@":
            return None
        try:
            address = self._view.master(event.master).address
        except LookupError:
            return None
        if words[2:4] != [address.host, str(address.port)]:
            return None
        payload = f"{event.master} {words[-2]} {words[-1]} {address.host} {address.port}"
        return SentinelEvent("+switch-master", payload, event.master, event.script)

    def stands_in(self, master: str, leader: str | None) -> bool:
        """
        Whether this Sentinel reports a failover that another one has led, because that one may be a C Sentinel.

        :param leader: its ID if it is known.
        """
        identity = self._view.identity()
        try:
            peers = self._view.master(master).peers
        except LookupError:
            return False
        # A Sentinel that has voted for itself in vain does not know the leader.
        candidates = [each for each in peers if leader in (None, identity.sentinel_id, each.sentinel_id)]
        if not any(each.kind != "txsentinel" for each in candidates):
            return False
        ours = [each.sentinel_id for each in peers if each.kind == "txsentinel" and each.connected]
        return identity.sentinel_id <= min(ours, default=identity.sentinel_id)

    def reports(self, record: FailoverRecord) -> bool:
        """Whether this Sentinel reports a finished failover: it led it, campaigned in vain, or stands in."""
        if record.observer_role is ObserverRole.LEADER:
            return True
        if record.outcome is not Outcome.SWITCHED:
            return record.observer_role is ObserverRole.CANDIDATE
        return self.stands_in(record.master, record.leader)

    def record_of(self, master: str, config_epoch: int) -> FailoverRecord | None:
        """Return the record of the failover with a config epoch, if the history has it."""
        records = self._view.history(master, 10)
        return next((each for each in records if each.config_epoch == config_epoch), None)
