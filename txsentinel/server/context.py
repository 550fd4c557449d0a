"""The context of all commands: the objects that the service provides to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from txsentinel.config.generic import GenericOptions
from txsentinel.model.log_throttle import LogThrottle
from txsentinel.model.timings import Limits, Millis
from txsentinel.server.acl.control import AccessControl
from txsentinel.server.clients import ClientRegistry
from txsentinel.server.command_modules import TABLE
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


class IScriptQueue(Protocol):
    """The queue of scripts, as the server shows it."""

    @property
    def jobs(self) -> Sequence[ScriptJob]:
        """All running and waiting scripts, oldest first."""

    @property
    def running(self) -> int:
        """Number of running scripts."""


def _executable(path: str) -> bool:
    return os.access(path, os.X_OK)


def _unlimited() -> int:
    return sys.maxsize


def _keep_loglevel(word: str) -> None:
    """Ignore the log level, where there is no log to configure."""


@dataclass(slots=True)
class ServerContext:
    """
    The objects that commands use.

    ``turn`` executes the decisions of the core. ``shutdown`` begins an orderly end of the process.
    ``change_loglevel`` takes a word of the ``loglevel`` directive and applies it; the next commit saves it.
    ``executable`` returns whether a script can be executed.
    """

    core: SentinelCore
    barrier: ReplyBarrier
    scripts: IScriptQueue
    host: IHost
    access: AccessControl
    turn: Callable[[], None]
    shutdown: Callable[[], None]
    change_loglevel: Callable[[str], None] = _keep_loglevel
    executable: Callable[[str], bool] = _executable
    available_descriptors: Callable[[], int] = _unlimited
    """Returns the number of clients for which there are file descriptors, without those reserved for links."""

    options: GenericOptions = field(default_factory=GenericOptions)
    limits: Limits = field(default_factory=Limits)
    process_info: ProcessInfo = field(default_factory=ProcessInfo)
    table: CommandTable = field(init=False)
    hub: PubSubHub = field(init=False)
    rounds: RoundRobin = field(init=False)
    clients: ClientRegistry = field(default_factory=ClientRegistry)
    statistics: Statistics = field(default_factory=Statistics)
    log_throttle: LogThrottle = field(default_factory=LogThrottle)
    config_path: str = ""
    started_at: Millis = 0
    """The start of the service on the monotonic clock."""

    addresses: dict[bytes, tuple[Master, Address, bool, Raw]] = field(default_factory=dict)
    """Encoded replies to GET-MASTER-ADDR-BY-NAME, each with the values that it was made of."""

    request_cache: RequestCache = field(default_factory=RequestCache)

    def __post_init__(self) -> None:
        """Create the hub and the scheduler, and apply ``rename-command`` to the table."""
        self.hub = PubSubHub(self.host.now, partial(self.host.reactor.callLater, 0))
        self.rounds = RoundRobin(self.host.now, partial(self.host.reactor.callLater, 0))
        self.table = TABLE.renamed(self.options.renamed_commands) if self.options.renamed_commands else TABLE
