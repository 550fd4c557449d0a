"""
What each part of the server needs of the others.

A handler of a command, or another part of the server, names one of these protocols as the type of its services. The
context of the server fulfils all of them, but only the factory and the service know the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from txsentinel.config.generic import GenericOptions
    from txsentinel.core.instances import Master
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.address import Address
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.log_throttle import LogThrottle
    from txsentinel.model.publications import PublisherRegistry
    from txsentinel.model.timings import Limits, Millis
    from txsentinel.server.access_control import AccessControl
    from txsentinel.server.clients import ClientRegistry
    from txsentinel.server.pacing import RoundRobin
    from txsentinel.server.process_info import ProcessInfo
    from txsentinel.server.pubsub import PubSubHub
    from txsentinel.server.request_cache import RequestCache
    from txsentinel.server.statistics import Statistics
    from txsentinel.server.table import CommandTable
    from txsentinel.wire.resp import Raw


# Implemented by the service.


class ReplyBarrier(Protocol):
    """Defers replies until the state that they report is durable."""

    stuck: bool

    def defer_reply(
        self,
        generation: int,
        released: Callable[[], None],
        failed: Callable[[], None],
        undo: Callable[[], str | None] | None = None,
        since: int = 0,
    ) -> None:
        """Call ``released`` when ``generation`` is durable (at once if it is), or ``failed`` if saving it failed."""


class ScriptJob(Protocol):
    """A script in the queue, as PENDING-SCRIPTS shows it."""

    @property
    def path(self) -> str:
        """The path of the program."""

    @property
    def arguments(self) -> Sequence[str]:
        """Its arguments, without the path."""

    @property
    def pid(self) -> int | None:
        """The process ID while it runs."""

    @property
    def started_at(self) -> Millis | None:
        """The start of the present run; ``None`` if it is not running."""

    @property
    def due_at(self) -> Millis | None:
        """The time of the next attempt; ``None`` for as soon as possible."""

    @property
    def attempts(self) -> int:
        """Number of attempts so far."""


class PendingScripts(Protocol):
    """The queue of scripts, as the server shows it."""

    @property
    def jobs(self) -> Sequence[ScriptJob]:
        """All running and waiting scripts, oldest first."""

    @property
    def running(self) -> int:
        """Number of running scripts."""


# Needed by connections.


class AdmissionServices(Protocol):
    """What accepting a connection needs."""

    access: AccessControl
    clients: ClientRegistry
    host: IHost
    log_throttle: LogThrottle
    options: GenericOptions

    def available_descriptors(self) -> int:
        """Return the number of clients for which there are file descriptors."""


class DispatchServices(Protocol):
    """What finding the command of a request needs, and checking whether the client may execute it."""

    access: AccessControl
    limits: Limits
    table: CommandTable


class OutputServices(Protocol):
    """What sending replies needs, and limiting what waits to be sent."""

    barrier: ReplyBarrier
    host: IHost
    log_throttle: LogThrottle
    options: GenericOptions
    statistics: Statistics


class ConnectionServices(AdmissionServices, DispatchServices, OutputServices, Protocol):
    """What the protocol of a connection needs."""

    hub: PubSubHub
    request_cache: RequestCache
    rounds: RoundRobin

    def turn(self) -> None:
        """Execute the decisions of the core."""


class EvictionServices(Protocol):
    """What evicting clients needs."""

    clients: ClientRegistry
    limits: Limits
    log_throttle: LogThrottle
    options: GenericOptions
    statistics: Statistics


# Needed by commands.


class LoginServices(Protocol):
    """What the commands about the own connection need."""

    access: AccessControl
    limits: Limits
    options: GenericOptions


class FilterServices(Protocol):
    """What the filters of CLIENT LIST and CLIENT KILL need."""

    access: AccessControl
    clients: ClientRegistry
    host: IHost
    options: GenericOptions


class ClientServices(FilterServices, Protocol):
    """What CLIENT needs."""

    limits: Limits


class TrackingServices(Protocol):
    """What CLIENT TRACKING needs."""

    clients: ClientRegistry
    limits: Limits


class TableServices(Protocol):
    """What COMMAND needs."""

    table: CommandTable


class AclServices(Protocol):
    """What ACL needs."""

    access: AccessControl
    host: IHost
    log_throttle: LogThrottle
    options: GenericOptions
    table: CommandTable


class PubSubServices(Protocol):
    """What SUBSCRIBE and its relatives need, and PUBLISH."""

    access: AccessControl
    core: SentinelCore
    host: IHost
    hub: PubSubHub
    limits: Limits


class InformationServices(Protocol):
    """What INFO needs."""

    clients: ClientRegistry
    config_path: str
    core: SentinelCore
    host: IHost
    hub: PubSubHub
    options: GenericOptions
    process_info: ProcessInfo
    scripts: PendingScripts
    started_at: Millis
    statistics: Statistics


class ServerServices(InformationServices, Protocol):
    """What the commands about the process need."""

    def shutdown(self) -> None:
        """Begin an orderly end of the process."""


class QueryServices(Protocol):
    """What the queries of SENTINEL need."""

    addresses: dict[bytes, tuple[Master, Address, bool, Raw]]
    core: SentinelCore
    host: IHost
    scripts: PendingScripts


class OperatorServices(Protocol):
    """What TXSENTINEL needs."""

    clients: ClientRegistry
    config_path: str
    core: SentinelCore
    host: IHost
    process_info: ProcessInfo
    publishers: PublisherRegistry
    scripts: PendingScripts
    started_at: Millis

    def available_descriptors(self) -> int:
        """Return the number of clients for which there are file descriptors."""

    def failovers(self, name: str | None, limit: int, /) -> Sequence[FailoverRecord]:
        """Return the latest failovers of one master or of all, newest first."""

    def acknowledge(self, record_id: str, by: str, comment: str, /) -> str | None:
        """Record that ``by`` has seen a failover; return the ID of its group, ``None`` if its record is unknown."""

    def reload(self) -> Deferred[str]:
        """Read secrets, certificates and users again; the result is what was wrong, empty if nothing was."""


class SavingServices(Protocol):
    """What a command needs that replies when its change is durable."""

    barrier: ReplyBarrier
    core: SentinelCore
    host: IHost


class ChangeServices(SavingServices, Protocol):
    """What the commands of SENTINEL that change masters need."""

    addresses: dict[bytes, tuple[Master, Address, bool, Raw]]

    def executable(self, path: str, /) -> bool:
        """Whether a script can be executed."""


class SettingServices(SavingServices, Protocol):
    """What the commands of SENTINEL about this Sentinel itself need."""

    options: GenericOptions

    def change_loglevel(self, word: str, /) -> None:
        """Apply a word of the ``loglevel`` directive; the next commit saves it."""
