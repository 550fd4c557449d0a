"""What the links need from those around them: a host, the core they report to, and one flush per turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from twisted.internet.protocol import ClientFactory

from txsentinel.core.instances import Instance, Master
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.options import SentinelOptions
from txsentinel.interfaces import IHost
from txsentinel.links.attempts import ConnectThrottle
from txsentinel.model.address import Address
from txsentinel.model.log_text import DistinctLineThrottle
from txsentinel.model.timings import Limits, Millis, Timings


class CoreInputs(Protocol):
    """The part of the decision core that links talk to. Nothing here waits, and nothing is sent from inside."""

    @property
    def options(self) -> SentinelOptions:
        """Read at each connection: our own ID goes into ``CLIENT SETNAME``."""

    @property
    def timings(self) -> Timings:
        """Read whenever a wait begins, as ``SENTINEL DEBUG`` may have changed it."""

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """A connection is established; ``local_ip`` is our end of it."""

    def link_down(self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis) -> None:
        """An attempt to connect failed, or an established connection is gone."""

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """The text of a status or error reply to PING; ``None`` for a reply of any other type."""

    def info_reply(self, link: InstanceLink, text: bytes | None, now: Millis) -> None:
        """The text of an INFO; ``None`` if the reply was an error or no bulk string."""

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        """The first word of an answer to ROLE, ``None`` if there is none; ``refused``: it is not answered here."""

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """A hello was accepted by, or refused to, the instance it was sent for."""

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None) -> None:
        """A message on the hello channel."""

    def id_reply(self, link: InstanceLink, reply: object, now: Millis) -> None:
        """What somebody who says that it is a Sentinel answered to ``SENTINEL MYID``, unchecked."""

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        """Something arrived on a confirmed subscription."""

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """A server refused part of the transaction that was to make it a master, and carried out nothing of it."""

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """A server refused part of the transaction that has it hand over its role."""

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        """What a peer answered to ``is-master-down-by-addr``, unchecked."""


class ConnectOptions(Protocol):
    """The settings that say how connections are made."""

    @property
    def bind_source_addr(self) -> str | None:
        """The local address to connect from; empty or ``None`` leaves it to the system."""


Secure: TypeAlias = Callable[[ClientFactory, Callable[[], Address], float], ClientFactory]
"""
Wraps a factory so that it gets its connections with TLS upon them, once their handshakes are over.

Given are the factory, what tells where its link leads to, and the seconds that a handshake may take. A failed
handshake is told to the factory as a failed attempt to connect.
"""


class Flushable(Protocol):
    """A connection with bytes that have not been handed to its transport."""

    def flush(self) -> None:
        """Hand them over, in one write."""


@dataclass(slots=True, eq=False)
class LinkContext:
    """Shared by every connection of one pool."""

    host: IHost
    core: CoreInputs
    options: ConnectOptions
    limits: Limits
    turn: Callable[[], None]
    """Carries out what the core decided; called after the core was told something."""

    dial: Callable[..., object]
    """Makes connections to servers: ``connectTCP`` of the reactor, or of what stands in for it."""

    connect_peer: Callable[..., object]
    """The same for peers, who are few, and whose word must not wait until all servers have had theirs."""

    throttle: ConnectThrottle
    """Bounds the attempts to connect to servers that are under way."""

    secure: Secure | None = None
    """What puts TLS upon connections; ``None`` for plain TCP."""

    unconfirmed_lines: DistinctLineThrottle = field(default_factory=DistinctLineThrottle)
    """Lines about whoever listens where a stranger said that there is a Sentinel; any number may be named."""

    failing: set[object] = field(default_factory=set)
    """Factories whose last attempt to connect failed."""

    unflushed: list[Flushable] = field(default_factory=list)
    """Connections written to in this turn, oldest first."""

    def told(self) -> None:
        """The core was told something: let its decisions be carried out, then let the bytes go."""
        self.turn()
        if self.unflushed:
            self.flush()

    def flush(self) -> None:
        """One write for each connection that has something to say."""
        if self.unflushed:
            waiting, self.unflushed = self.unflushed, []
            for connection in waiting:
                connection.flush()
