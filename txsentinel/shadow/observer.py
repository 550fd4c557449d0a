"""The unmodified service over the servers of a fleet. It reads, and changes nothing on any of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txsentinel.config.configuration import load
from txsentinel.config.quoting import written
from txsentinel.core.effects import (
    Announce,
    AskMasterDown,
    Connect,
    Disconnect,
    Effect,
    Note,
    Ping,
    Reconnect,
    ReportAnswers,
    RequestId,
    RequestInfo,
    RequestRole,
    ResolveAddress,
)
from txsentinel.interfaces import IHost, ISentinelListener
from txsentinel.model.events import SentinelEvent
from txsentinel.model.explanation import Explanation
from txsentinel.model.snapshots import Endpoint
from txsentinel.runtime.service import SentinelService

READS: Final = frozenset(
    (
        Announce,
        Connect,
        Disconnect,
        Note,
        Ping,
        Reconnect,
        ReportAnswers,
        RequestId,
        RequestInfo,
        RequestRole,
        ResolveAddress,
    )
)
"""Effects without a consequence for other processes. All others are dropped, also those that may be added later."""

ANY_CANDIDATE: Final = "*"
"""The candidate in a question about a master that asks for no vote."""

FIRST_ID: Final = "0" * 39 + "1"
"""
The ID of the observer. Candidates campaign in the order of their IDs, so it would be the first. No other Sentinel
receives it.
"""

SERVER_PASSWORD: Final = "SERVER_PASSWORD"
SENTINEL_PASSWORD: Final = "SENTINEL_PASSWORD"


def is_read(effect: Effect) -> bool:
    """Whether an effect changes nothing: no hello, no vote, no order, no script."""
    if isinstance(effect, AskMasterDown):
        return effect.candidate == ANY_CANDIDATE
    return type(effect) in READS


@dataclass(frozen=True)
class ObservedMaster:
    """
    A master to watch.

    :param options: directive → value, such as ``down-after-milliseconds``.
    :param own_options: settings that C Sentinels do not have.
    :param sentinels: the addresses and IDs of the Sentinels of the fleet.
    """

    name: str
    address: Endpoint
    quorum: int
    options: Mapping[str, str]
    own_options: Mapping[str, str]
    replicas: Sequence[Endpoint]
    sentinels: Sequence[tuple[Endpoint, str]]


@dataclass(frozen=True)
class FleetLogin:
    """Users and passwords; the password is ``None`` if none is needed."""

    server_user: str | None
    server_password: str | None
    sentinel_user: str | None
    sentinel_password: str | None


def configuration_text(
    masters: Sequence[ObservedMaster], access: FleetLogin, directory: str, tls: Sequence[str]
) -> str:
    """
    Return the configuration of the observer. It opens no port, only a socket in ``directory``, and has no passwords.

    :param tls: directives for connections by TLS.
    """
    lines = ["port 0", f"unixsocket {written(directory + '/observer.sock')}", "unixsocketperm 600", *tls]
    lines.append(f"sentinel myid {FIRST_ID}")
    lines.append("sentinel resolve-hostnames yes")
    if access.sentinel_user:
        lines.append(f"sentinel sentinel-user {written(access.sentinel_user)}")
    if access.sentinel_password:
        lines.append(f"#: txsentinel secret sentinel-pass env:{SENTINEL_PASSWORD}")
    for master in masters:
        name = written(master.name)
        lines.append(f"sentinel monitor {name} {master.address.host} {master.address.port} {master.quorum}")
        lines += [f"sentinel {word} {name} {written(value)}" for word, value in master.options.items()]
        lines += [f"#: txsentinel {word} {name} {written(value)}" for word, value in master.own_options.items()]
        if access.server_user:
            lines.append(f"sentinel auth-user {name} {written(access.server_user)}")
        if access.server_password:
            lines.append(f"#: txsentinel secret auth-pass {name} env:{SERVER_PASSWORD}")
        lines += [f"sentinel known-replica {name} {each.host} {each.port}" for each in master.replicas]
        lines += [f"sentinel known-sentinel {name} {at.host} {at.port} {own_id}" for at, own_id in master.sentinels]
    return "\n".join(lines) + "\n"


@implementer(ISentinelListener)
class ShadowSentinel:
    """
    The service with a configuration in a temporary directory, which is removed at the end.

    :param received: called with each event, and with the explanation of the master that the event is about.
    :param tls: directives for connections by TLS.
    :raises ConfigError: if an option has an invalid value.
    """

    def __init__(
        self,
        host: IHost,
        masters: Sequence[ObservedMaster],
        access: FleetLogin,
        received: Callable[[SentinelEvent, Explanation | None], None],
        tls: Sequence[str] = (),
    ) -> None:
        self._received = received
        self._directory = tempfile.TemporaryDirectory(prefix="txsentinel-shadow-")
        path = Path(self._directory.name, "sentinel.conf")
        text = configuration_text(masters, access, self._directory.name, tls)
        path.touch(0o600)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        environment = {SERVER_PASSWORD: access.server_password or "", SENTINEL_PASSWORD: access.sentinel_password or ""}
        self.service = SentinelService(
            host,
            load(str(path), path.read_bytes(), environment=environment),
            note=lambda level, line: None,
            note_event=lambda event: None,
            listeners=self,
            shutdown=lambda: None,
            permits=is_read,
        )

    def event_published(self, event: SentinelEvent) -> None:
        """See :class:`~txsentinel.interfaces.ISentinelListener`."""
        self._received(event, None if event.master is None else self.explain(event.master))

    def explain(self, name: str) -> Explanation | None:
        """Return why a master is not failed over here; ``None`` if it is not monitored."""
        if name not in self.service.core.registry.masters:
            return None
        return self.service.surface.view.explain(name)

    def start(self) -> None:
        """Begin to watch."""
        self.service.startService()

    def stop(self) -> Deferred[None]:
        """Close all connections and remove the directory."""
        return self.service.stopService().addBoth(lambda _: self._directory.cleanup())
