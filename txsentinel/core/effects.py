"""
Effects, which the core returns for execution, and the outbox, which stamps each with a generation.

An effect that depends on hard state waits in the durability barrier until its *generation* is durable. A probe
(connecting, PING, INFO, a question about a master's state) has generation 0 and never waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True)
class Connect:
    """Establish the link's connections, and reconnect them whenever they are lost."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close one connection of a link (``None``: all of them) and reconnect at once."""

    link: InstanceLink
    kind: LinkKind | None
    reason: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the link's connections permanently."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class Ping:
    """Send PING on one connection of the link."""

    link: InstanceLink
    kind: LinkKind


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Send INFO."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class RequestRole:
    """Send ROLE."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class RequestId:
    """Send ``SENTINEL MYID`` to the process at the link's address."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class PublishHello:
    """Send PUBLISH with our hello; the reply is reported for ``instance``."""

    link: InstanceLink
    instance: Instance
    payload: bytes


@dataclass(frozen=True, slots=True)
class AskMasterDown:
    """Send ``SENTINEL is-master-down-by-addr``: a question for candidate ``*``, otherwise a vote request."""

    link: InstanceLink
    master: Master
    host: str
    port: int
    epoch: int
    candidate: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """
    Send the role-change transaction: MULTI, SLAVEOF, CONFIG REWRITE, CLIENT KILL, EXEC, followed by INFO.

    ``host`` and ``port`` are the master to follow; ``host`` is ``None`` for NO ONE.
    """

    link: InstanceLink
    host: str | None
    port: int = 0
    abort_failover: bool = False
    """Whether to abort the server's own FAILOVER command first."""

    @property
    def promotes(self) -> bool:
        """Whether the order makes the server a master."""
        return self.host is None


@dataclass(frozen=True, slots=True)
class HandOver:
    """
    Send the transaction by which a healthy master hands over its role to a replica: CLIENT PAUSE WRITE, FAILOVER TO.

    ``timeout`` is how long the replica may take to catch up, ``pause`` how long writes are paused unless the pause is
    ended earlier; both in milliseconds.
    """

    link: InstanceLink
    host: str
    port: int
    timeout: Millis
    pause: Millis
    reports: bool = False
    """Whether INFO is sent after the pause, and reported to the core as a hold of writes."""


@dataclass(frozen=True, slots=True)
class HoldWrites:
    """
    Send CLIENT PAUSE WRITE and INFO in one transaction, so that the offset is that of the last write before the pause.

    ``period`` is in milliseconds.
    """

    link: InstanceLink
    period: Millis


@dataclass(frozen=True, slots=True)
class ReadWriteLimits:
    """Read ``min-replicas-to-write`` and ``min-replicas-max-lag``."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class RejectWrites:
    """Set both, so that all writes are rejected, and send INFO in the same transaction, as ``HoldWrites`` does."""

    link: InstanceLink
    limits: WriteLimits


@dataclass(frozen=True, slots=True)
class AcceptWrites:
    """Restore both; ``rewrite`` is whether CONFIG REWRITE is sent, too."""

    link: InstanceLink
    limits: WriteLimits
    rewrite: bool


@dataclass(frozen=True, slots=True)
class DemoteHeld:
    """
    Make an old master whose writes are held a replica, in one transaction: INFO, SLAVEOF, CLIENT KILL, CLIENT UNPAUSE.

    The INFO in it has the last offset that it had as a master. ``limits`` are restored in place of CLIENT UNPAUSE if
    they were set to reject the writes.
    """

    link: InstanceLink
    host: str
    port: int
    limits: WriteLimits | None = None


@dataclass(frozen=True, slots=True)
class CheckRights:
    """Queue commands in a transaction that cannot be executed, as its first command is incomplete."""

    link: InstanceLink
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FinishHandOver:
    """Send CONFIG REWRITE, CLIENT KILL and CLIENT UNPAUSE in a transaction; after a hand-over, to both servers."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class AbortHandOver:
    """Send FAILOVER ABORT and CLIENT UNPAUSE, after a hand-over that failed."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class KillScript:
    """Send SCRIPT KILL to an instance that is down because a script keeps it busy."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class PauseClients:
    """
    Send CLIENT PAUSE, for all commands: not even replicas that connect meanwhile can copy the data set.

    ``period`` is in milliseconds. The pause cannot be ended earlier.
    """

    link: InstanceLink
    period: Millis


@dataclass(frozen=True, slots=True)
class PauseWrites:
    """Send CLIENT PAUSE WRITE, to hold the writes of an isolated master; ``period`` is in milliseconds."""

    link: InstanceLink
    period: Millis


@dataclass(frozen=True, slots=True)
class ResumeWrites:
    """Send CLIENT UNPAUSE, to end what ``PauseWrites`` began."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Send a command of TXSENTINEL to a peer of our kind; the reply is reported with ``number``."""

    link: InstanceLink
    number: int
    words: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReportAnswers:
    """Call ``report``: the answers of the peers to a command are complete."""

    report: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Announce:
    """Log and publish one event, pass it to plug-ins, and run the notification script if the level requires it."""

    event: SentinelEvent
    binding: bool = False
    """
    Whether the event waits for its generation even while saving fails, as a vote must. Other events are then published
    without waiting.
    """


@dataclass(frozen=True, slots=True)
class Note:
    """
    Write a log line that is not an event.

    With ``until``, the date that many milliseconds from now is appended. ``kind`` is set for lines that clients or
    other Sentinels can provoke; a limited number of each kind is logged per minute.
    """

    level: Level
    text: str
    until: Millis | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class RunScript:
    """Queue a script; ``arguments`` do not include the path itself."""

    path: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResolveAddress:
    """Resolve the host name of this address, and report the result to the core."""

    address: Address


@dataclass(frozen=True, slots=True)
class Crash:
    """End the process at once with exit status 99, as ``SENTINEL SIMULATE-FAILURE`` ordered."""

    reason: str


LinkEffect: TypeAlias = (
    Connect
    | Reconnect
    | Disconnect
    | Ping
    | RequestInfo
    | RequestRole
    | RequestId
    | PublishHello
    | AskMasterDown
    | Reconfigure
    | HandOver
    | HoldWrites
    | ReadWriteLimits
    | RejectWrites
    | AcceptWrites
    | DemoteHeld
    | CheckRights
    | FinishHandOver
    | AbortHandOver
    | KillScript
    | PauseClients
    | PauseWrites
    | ResumeWrites
    | SendCommand
)
"""The effects that concern a link, which they have as ``link``."""

Effect: TypeAlias = LinkEffect | Announce | Note | RunScript | ResolveAddress | Crash | ReportAnswers


class Outbox:
    """
    Effects in the order of the decisions, each with the generation that it waits for.

    ``generation`` counts the changes of hard state. ``dirty`` has the names of the masters whose hard state changed
    since the executor last emptied it; ``None`` in it stands for the state of the Sentinel itself. ``observer``, if
    set, is called with each effect as it is decided.
    """

    def __init__(self) -> None:
        self.observer: Callable[[Effect], None] | None = None
        self.generation = 0
        self.taken = 0
        """How often effects or names of changed masters were taken; no decision depends on it."""

        self.dirty: set[str | None] = set()
        self.pending: list[tuple[int, Effect]] = []

    def changed(self, master: str | None) -> int:
        """Begin a new generation, as the hard state of ``master`` changed; effects emitted from here on wait for it."""
        self.generation += 1
        self.dirty.add(master)
        return self.generation

    def emit(self, effect: Effect, *, probe: bool = False) -> None:
        """Queue ``effect`` with the current generation; with ``probe`` it does not wait."""
        self.pending.append((0 if probe else self.generation, effect))
        if self.observer is not None:
            self.observer(effect)

    def take(self) -> list[tuple[int, Effect]]:
        """Remove and return all queued effects with their generations, oldest first."""
        taken, self.pending = self.pending, []
        self.taken += 1
        return taken

    def take_dirty(self) -> set[str | None]:
        """Empty ``dirty`` and return what it contained."""
        taken, self.dirty = self.dirty, set()
        self.taken += 1
        return taken
