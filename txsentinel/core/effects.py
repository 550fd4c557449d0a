"""
What the core asks the shell to do, and the outbox that stamps it with the state it depends on.

An effect that says something to somebody waits in the shell until the *generation* it carries is
durable; a probe (connecting, PING, INFO, asking for an opinion) carries generation 0 and never waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from txsentinel.core.instances import Instance, Master
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True)
class Connect:
    """Keep this link's connections up, from now on, without being asked again."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close one connection of a link (or all of them, for ``None``) and make it anew at once."""

    link: InstanceLink
    kind: LinkKind | None
    reason: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the link for good and forget it."""

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
    """``SENTINEL MYID``: whoever listens at the address of the link is to tell its ID."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class PublishHello:
    """PUBLISH our hello; ``instance`` is told of the answer."""

    link: InstanceLink
    instance: Instance
    payload: bytes


@dataclass(frozen=True, slots=True)
class AskMasterDown:
    """``SENTINEL is-master-down-by-addr``: opinion with candidate ``*``, vote request otherwise."""

    link: InstanceLink
    master: Master
    host: str
    port: int
    epoch: int
    candidate: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """
    The role-change transaction: MULTI, SLAVEOF, CONFIG REWRITE, CLIENT KILL, EXEC, with INFO right behind it.

    ``master`` is the address to follow, or ``None`` for NO ONE.
    """

    link: InstanceLink
    host: str | None
    port: int = 0
    abort_failover: bool = False
    """First abort a FAILOVER that the server is running itself."""

    @property
    def promotes(self) -> bool:
        """Does it make a master?"""
        return self.host is None


@dataclass(frozen=True, slots=True)
class HandOver:
    """
    The transaction that has a healthy master hand its role to a replica: CLIENT PAUSE WRITE, FAILOVER TO.

    ``timeout`` is how long the servers may take until the replica has everything, ``pause`` how long writes are held
    if nobody ends it; both in milliseconds.
    """

    link: InstanceLink
    host: str
    port: int
    timeout: Millis
    pause: Millis


@dataclass(frozen=True, slots=True)
class FinishHandOver:
    """After a hand-over, to both servers: CONFIG REWRITE, CLIENT KILL, CLIENT UNPAUSE in a transaction."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class AbortHandOver:
    """A hand-over that came to nothing: FAILOVER ABORT and CLIENT UNPAUSE."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class KillScript:
    """SCRIPT KILL, to an instance that is down because a script keeps it busy."""

    link: InstanceLink


@dataclass(frozen=True, slots=True)
class Announce:
    """Log, publish and pass on one event, and run the notification script if it calls for one."""

    event: SentinelEvent
    binding: bool = False
    """Wait for the generation even if saving fails, as for a vote; anything else is then published all the same."""


@dataclass(frozen=True, slots=True)
class Note:
    """
    A log line that is not an event; with ``until`` the date that many milliseconds away is appended.

    ``kind`` is given for lines that strangers can provoke: a few of each kind are logged in a minute.
    """

    level: Level
    text: str
    until: Millis | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class RunScript:
    """Queue a script: ``arguments`` without the path itself."""

    path: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResolveAddress:
    """Look the host name of this link's address up, and tell the core what came of it."""

    address: Address


@dataclass(frozen=True, slots=True)
class Crash:
    """Die at once with exit status 99, as ``SENTINEL SIMULATE-FAILURE`` ordered."""

    reason: str


Effect: TypeAlias = (
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
    | FinishHandOver
    | AbortHandOver
    | KillScript
    | Announce
    | Note
    | RunScript
    | ResolveAddress
    | Crash
)


class Outbox:
    """
    Effects in the order in which they were decided, each with the generation it waits for.

    ``generation`` counts the changes of hard state; ``dirty`` names the masters whose lines changed
    since the shell last looked, and ``None`` in it stands for the state outside of any master.
    ``overheard`` is told of each effect in the moment of its decision, if somebody wants to know.
    """

    def __init__(self) -> None:
        self.observer: Callable[[Effect], None] | None = None
        self.generation = 0
        self.dirty: set[str | None] = set()
        self.pending: list[tuple[int, Effect]] = []

    def changed(self, master: str | None) -> int:
        """Hard state changed: whatever is said from here on waits until it is on disk."""
        self.generation += 1
        self.dirty.add(master)
        return self.generation

    def emit(self, effect: Effect, *, probe: bool = False) -> None:
        """Queue ``effect`` behind every change made so far, unless it is a mere probe."""
        self.pending.append((0 if probe else self.generation, effect))
        if self.observer is not None:
            self.observer(effect)

    def take(self) -> list[tuple[int, Effect]]:
        """Everything queued since the last call, oldest first."""
        taken, self.pending = self.pending, []
        return taken
