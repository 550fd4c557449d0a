"""Replies to orders that change the role of a server, for the journal only; INFO shows what the orders effected."""

from __future__ import annotations

from txsentinel.core.instances import InstanceLink
from txsentinel.core.journal import Journal
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis


class OrderReplies:
    """Writes the replies to the journal of each master that uses the link."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def clients_closed(self, link: InstanceLink, clients: int, now: Millis) -> None:
        """Handle that the server of ``link`` disconnected its clients when it was ordered to follow another one."""
        if not link.closed:
            for instance in link.instances:
                data, subject = (("clients", clients),), link.address.joined()
                self._journal.write(JournalKind.CLIENTS_CLOSED, instance.master.name, now, subject=subject, data=data)

    def follow_order_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle that the server of ``link`` refused ``command`` of the order to follow another server."""
        if not link.closed:
            for instance in link.instances:
                data, subject = (("error", error),), link.address.joined()
                self._journal.write(
                    JournalKind.ORDER_REFUSED, instance.master.name, now, subject=subject, code=command, data=data
                )
