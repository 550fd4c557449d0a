"""The context of all commands: the objects that the service provides to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from txsentinel.config.generic import GenericOptions
from txsentinel.model.log_throttle import LogThrottle
from txsentinel.model.publications import PublisherRegistry
from txsentinel.model.timings import Limits, Millis
from txsentinel.server.access_control import AccessControl
from txsentinel.server.all_commands import TABLE
from txsentinel.server.clients import ClientRegistry
from txsentinel.server.pacing import RoundRobin
from txsentinel.server.process_info import ProcessInfo
from txsentinel.server.pubsub import PubSubHub
from txsentinel.server.request_cache import RequestCache
from txsentinel.server.statistics import Statistics
from txsentinel.server.table import CommandTable
from txsentinel.wire.resp import Raw

if TYPE_CHECKING:
    from txsentinel.core.instances import Master
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost
    from txsentinel.model.address import Address
    from txsentinel.model.history import FailoverRecord
    from txsentinel.server.services import PendingScripts, ReplyBarrier


def _executable(path: str) -> bool:
    return os.access(path, os.X_OK)


def _unlimited() -> int:
    return sys.maxsize


def _keep_nothing(lines: Sequence[str]) -> None:
    """Save no users, where there is no configuration file."""


def _keep_loglevel(word: str) -> None:
    """Ignore the log level, where there is no log to configure."""


def _no_history(name: str | None, limit: int) -> Sequence[FailoverRecord]:
    """Return no records, where there is no history of failovers."""
    return ()


def nothing_reloaded() -> Deferred[str]:
    """Reload nothing, where there is no process of its own; the result is that nothing was wrong."""
    return succeed("")


def _acknowledge_nothing(record_id: str, by: str, comment: str) -> str | None:
    """Know no record."""
    return None


@dataclass(slots=True)
class ServerContext:
    """
    The objects that commands use.

    ``turn`` executes the decisions of the core. ``shutdown`` begins an orderly end of the process.
    ``change_loglevel`` takes a word of the ``loglevel`` directive and applies it; the next commit saves it.
    ``keep_users`` replaces the ``user`` lines of the configuration file. ``executable`` returns whether a script can be
    executed.
    """

    core: SentinelCore
    barrier: ReplyBarrier
    scripts: PendingScripts
    host: IHost
    turn: Callable[[], None]
    shutdown: Callable[[], None]
    change_loglevel: Callable[[str], None] = _keep_loglevel
    keep_users: Callable[[Sequence[str]], None] = _keep_nothing
    executable: Callable[[str], bool] = _executable
    available_descriptors: Callable[[], int] = _unlimited
    """Returns the number of clients for which there are file descriptors, without those reserved for links."""

    failovers: Callable[[str | None, int], Sequence[FailoverRecord]] = _no_history
    """Returns the latest failovers of one master or of all, newest first."""

    acknowledge: Callable[[str, str, str], str | None] = _acknowledge_nothing
    """Records who has seen a failover, with a comment; returns the ID of its group, ``None`` without a record."""

    reload: Callable[[], Deferred[str]] = nothing_reloaded
    """Reads secrets, certificates and users again; the result is what was wrong, empty if nothing was."""

    options: GenericOptions = field(default_factory=GenericOptions)
    limits: Limits = field(default_factory=Limits)
    process_info: ProcessInfo = field(default_factory=ProcessInfo)
    access: AccessControl = field(init=False)
    table: CommandTable = field(init=False)
    hub: PubSubHub = field(init=False)
    rounds: RoundRobin = field(init=False)
    clients: ClientRegistry = field(default_factory=ClientRegistry)
    statistics: Statistics = field(default_factory=Statistics)
    log_throttle: LogThrottle = field(default_factory=LogThrottle)
    publishers: PublisherRegistry = field(default_factory=PublisherRegistry)
    config_path: str = ""
    started_at: Millis = 0
    """The start of the service on the monotonic clock."""

    addresses: dict[bytes, tuple[Master, Address, bool, Raw]] = field(default_factory=dict)
    """Encoded replies to GET-MASTER-ADDR-BY-NAME, each with the values that it was made of."""

    request_cache: RequestCache = field(default_factory=RequestCache)

    def __post_init__(self) -> None:
        """Create the users, the hub and the scheduler, and apply ``rename-command`` to the table."""
        self.access = AccessControl(
            self.options,
            self.host,
            TABLE,
            keep=self.keep_users,
            clients=self.clients,
            limits=self.limits,
            log_throttle=self.log_throttle,
            statistics=self.statistics,
        )
        self.hub = PubSubHub(self.host.now, partial(self.host.reactor.callLater, 0))
        self.rounds = RoundRobin(self.host.now, partial(self.host.reactor.callLater, 0))
        self.table = TABLE.renamed(self.options.renamed_commands) if self.options.renamed_commands else TABLE
