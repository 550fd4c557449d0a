"""What extensions get of a Sentinel, built when the first of them needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress

from txsentinel.model.snapshots import Endpoint

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    from txsentinel.links.pool import LinkPool
    from txsentinel.model.doctor import GroupHealth
    from txsentinel.model.events import Level, SentinelEvent
    from txsentinel.model.measurements import Measurements
    from txsentinel.runtime.examining import GroupExaminer
    from txsentinel.runtime.operator import Operator
    from txsentinel.runtime.publishing import EventPublisher
    from txsentinel.runtime.view import History, SentinelView
    from txsentinel.server.factory import SentinelServerFactory


class Surface:
    """
    Builds the view of a Sentinel, and the operator.

    :param note: writes a line to the log.
    :param ports: returns the open ports.
    :param stopped: returns ``None`` until the service begins to stop.
    :param history: the records of failovers, if they are kept.
    """

    def __init__(
        self,
        server: SentinelServerFactory,
        note: Callable[[Level, str], None],
        links: LinkPool,
        measurements: Measurements,
        events: EventPublisher,
        ports: Callable[[], Sequence[IListeningPort]],
        stopped: Callable[[], object],
        history: History | None = None,
    ) -> None:
        self._context = server.context
        self._handlers = server.handlers
        self._note = note
        self._links = links
        self._events = events
        self._measurements = measurements
        self.measurements = measurements.state
        self._ports = ports
        self._history = history
        self._stopped = stopped

    @cached_property
    def view(self) -> SentinelView:
        """The read-only view. Without it the core reports no changes, and what occurs often is not measured."""
        # A Sentinel without extensions needs neither this nor the operator. With them both are made before the start.
        from txsentinel.runtime.view import SentinelView

        context = self._context
        self._measurements.observe()
        view = SentinelView(context.host, context.core, context, self, self._history)
        context.core.state.observe_changes(view.touched)
        return view

    @cached_property
    def operator(self) -> Operator:
        """Executes commands."""
        from txsentinel.runtime.operator import Operator

        return Operator(self._context, self._handlers, self._note)

    # What the view shows of the service.

    def listens(self) -> Sequence[str]:
        """Return ``host:port`` of each port, or the path of a socket; with ``tls://`` in front of TLS ports."""
        return [self._place(port) for port in self._ports()]

    def link_count(self) -> int:
        """Return the number of links."""
        return len(self._links)

    def is_stopping(self) -> bool:
        """Return whether the service stops, or has stopped."""
        return self._stopped() is not None

    def examine_group(self, name: str, active: bool) -> Deferred[GroupHealth]:
        """Check the group of a master."""
        return self._examiner.examine(name, active)

    @cached_property
    def _examiner(self) -> GroupExaminer:
        # Few processes need what it imports.
        from txsentinel.runtime.examining import GroupExaminer

        context = self._context
        return GroupExaminer(context.host, context.core, context.options, self.listens)

    def subscribe(self, callback: Callable[[SentinelEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with every event once it is durable; return a function that ends that."""
        return self._events.subscribe(callback)

    def _place(self, port: IListeningPort) -> str:
        address: Any = port.getHost()
        if isinstance(address, UNIXAddress):
            name = address.name or b""
            return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
        place = str(Endpoint(address.host, address.port))
        return f"tls://{place}" if address.port == self._context.options.tls_port else place
