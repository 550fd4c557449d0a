"""One stand-in server: its role, its simulated replication, and its INFO."""

from __future__ import annotations

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from benchmarks.standins import information

Address = tuple[str, int]

NO_HISTORY: Final = "0" * 40
HELLO_CHANNEL: Final = b"__sentinel__:hello"
_REPORT_SECONDS: Final = 1.0
BYTES_PER_SECOND: Final = 1.4
"""Growth of an idle master's offset: one PING to its replicas every ten seconds."""


@dataclass
class Configuration:
    """What CONFIG SET can change and CONFIG REWRITE keeps; ``follows`` is changed by SLAVEOF."""

    follows: Address | None = None
    priority: int = 100
    announced: bool = True
    requirepass: bytes = b""
    masterauth: bytes = b""
    serve_stale: bool = True

    def copy(self) -> Configuration:
        """A copy that can be changed independently."""
        return Configuration(**vars(self))


class Subscriber(Protocol):
    """A client, as its server sees it."""

    @property
    def protocol(self) -> int:
        """The version of RESP, 2 or 3."""


ClientT = TypeVar("ClientT", bound=Subscriber)


@dataclass
class SharedState(Generic[ClientT]):
    """State shared by the instances of one process."""

    by_address: dict[Address, Instance[ClientT]] = field(default_factory=dict)
    configured_replicas: defaultdict[Address, set[Instance[ClientT]]] = field(default_factory=lambda: defaultdict(set))
    """Address of a master → the instances ordered to follow it, whether they can or not."""

    sync_seconds: float = 0.05
    """From SLAVEOF until the link to the new master is up."""

    log: list[dict[str, object]] = field(default_factory=list)
    """Role changes ordered by a client, each with ``at`` in seconds of ``time.monotonic()``."""

    later: Callable[[float, Callable[[], None]], None] = lambda seconds, call: None
    """Call a function after so many seconds; set by the loop."""


class Instance(Generic[ClientT]):
    """A server. Offsets are in bytes, times in seconds of ``time.monotonic()``."""

    def __init__(
        self, name: str, address: Address, shared: SharedState[ClientT], follows: Address | None = None
    ) -> None:
        self.name = name
        self.address = address
        self.shared = shared
        self.saved = Configuration(follows=follows)
        self.configuration = Configuration()
        self.alive = False
        self.hanging = False
        self.lag = 0
        """By how many bytes a replica stays behind its master."""

        self.connections: set[ClientT] = set()
        self.channels: defaultdict[bytes, list[ClientT]] = defaultdict(list)
        self.patterns: defaultdict[bytes, list[ClientT]] = defaultdict(list)
        self.followers: set[Instance[ClientT]] = set()
        """Replicas whose link to this server is up."""

        self.data: dict[bytes, bytes] = {}
        self.commands = 0
        self.accepted = 0
        self._reset()
        shared.by_address[address] = self

    def _reset(self) -> None:
        self._set_master(self.saved.follows)
        self.configuration = self.saved.copy()
        self.run_id = secrets.token_hex(20)
        self.history, self.older_history = secrets.token_hex(20), NO_HISTORY
        self.started_at = time.monotonic()
        self._offset, self._offset_at = 0, self.started_at
        self.link_up = False
        self._following: Instance[ClientT] | None = None
        self._attempt = 0
        self._link_lost_at: float | None = None
        self._audience: tuple[ClientT, ...] | None = None
        self._report: tuple[float, bytes] = (0.0, b"")

    # Start and stop

    def started(self) -> None:
        """Start with the saved configuration."""
        self._reset()
        self.alive = True
        self._schedule_connect()
        self._connect_replicas()

    def resumed(self) -> None:
        """Answer again after a hang."""
        self.hanging = False
        self._connect_replicas()

    def stopped(self) -> None:
        """Stop; replicas notice at once."""
        self._disconnect()
        self.alive = self.hanging = False
        self._disconnect_replicas()
        self.data.clear()
        self.channels.clear()
        self.patterns.clear()
        self.connections.clear()

    # Roles

    @property
    def is_replica(self) -> bool:
        """Whether it follows another server."""
        return self.configuration.follows is not None

    def follow(self, master: Address | None) -> bool:
        """
        Become a replica of the given address, or a master.

        :returns: whether this changed anything.
        """
        before = self.configuration.follows
        if master == before:
            return False
        entry: dict[str, object] = {"at": time.monotonic(), "name": self.name}
        self._disconnect()
        self._link_lost_at = None
        self._disconnect_replicas()
        self._set_master(master)
        if master is None:
            self.older_history, self.history = self.history, secrets.token_hex(20)
            self.shared.log.append({**entry, "what": "promoted"})
        else:
            self.shared.log.append({**entry, "what": "reconfigured", "to": f"{master[0]}:{master[1]}"})
            self._schedule_connect()
        self._connect_replicas()
        return True

    def _set_master(self, master: Address | None) -> None:
        before = self.configuration.follows
        if before is not None:
            self.shared.configured_replicas[before].discard(self)
        if master is not None:
            self.shared.configured_replicas[master].add(self)
        self.configuration.follows = master
        self.changed()

    # Replication

    @property
    def offset(self) -> int:
        """How many bytes of the replication stream it has seen, or has written as a master."""
        if self._following is not None:
            return max(0, self._following.offset - self.lag)
        if self.is_replica:
            return self._offset
        return self._offset + int((time.monotonic() - self._offset_at) * BYTES_PER_SECOND)

    def written(self, count: int, change: Callable[[dict[bytes, bytes]], None]) -> None:
        """Apply a write of a master here and at all its replicas."""
        self._offset += count
        self.changed()
        self._change(change)

    def _change(self, change: Callable[[dict[bytes, bytes]], None]) -> None:
        self.changed()
        change(self.data)
        for replica in self.followers:
            replica._change(change)

    def reconnect(self) -> None:
        """A password has changed: try the link again if there is none."""
        if self.is_replica and not self.link_up:
            self._schedule_connect()

    def _schedule_connect(self) -> None:
        if self.is_replica:
            self._attempt += 1
            attempt = self._attempt
            self.shared.later(self.shared.sync_seconds, lambda: self._connect(attempt))

    def _connect(self, attempt: int) -> None:
        follows = self.configuration.follows
        if attempt != self._attempt or self.link_up or not self.alive or follows is None:
            return
        master = self.shared.by_address.get(follows)
        if master is None or not master.alive or master.hanging or (master.is_replica and not master.link_up):
            return  # The master calls back when it can be followed.
        if master.configuration.requirepass not in (b"", self.configuration.masterauth):
            return
        self.link_up, self._following, self._link_lost_at = True, master, None
        if master.history != self.history:
            self.history, self.older_history = master.history, master.older_history
        self.data = dict(master.data)
        master.followers.add(self)
        self.changed()
        master.changed()
        master.audience_changed()
        self._connect_replicas()

    def _disconnect(self) -> None:
        """End the link to the master."""
        master = self._following
        self._offset, self._offset_at = self.offset, time.monotonic()
        self._attempt += 1
        if master is not None:
            self.link_up, self._following, self._link_lost_at = False, None, time.monotonic()
            master.followers.discard(self)
            self.changed()
            master.changed()
            master.audience_changed()

    def _disconnect_replicas(self) -> None:
        """End the links of all replicas, which can reconnect once this server can be followed again."""
        for replica in list(self.followers):
            replica._disconnect()

    def _connect_replicas(self) -> None:
        for other in self.shared.configured_replicas.get(self.address, ()):
            if other.alive and not other.link_up:
                other._schedule_connect()

    # Messages

    def audience(self) -> tuple[ClientT, ...] | None:
        """
        The subscribers of a hello published here, if all of them take the plain frame; otherwise ``None``.

        The own subscribers come first; those of the replicas come after them.
        """
        if self._audience is None:
            audience = list(self.channels.get(HELLO_CHANNEL, ()))
            if self.patterns or any(connection.protocol != 2 for connection in audience):
                return None
            for replica in self.followers:
                further = replica.audience()
                if further is None:
                    return None
                audience += further
            self._audience = tuple(audience)
        return self._audience

    def audience_changed(self) -> None:
        """A client subscribed or left, here or at a replica."""
        self._audience = None
        if self._following is not None:
            self._following.audience_changed()

    # Reports

    def changed(self) -> None:
        """INFO has changed."""
        self._report = (0.0, b"")

    def info(self) -> bytes:
        """The whole reply to INFO; it is cached for a second unless something changes."""
        now = time.monotonic()
        good_until, reply = self._report
        if now >= good_until:
            text = self.sections([])
            reply = b"$%d\r\n%b\r\n" % (len(text), text)
            self._report = now + _REPORT_SECONDS, reply
        return reply

    def sections(self, names: list[str]) -> bytes:
        """The text of the sections of INFO that are asked for, or of all."""
        now = time.monotonic()
        fields: dict[str, object] = {
            "run_id": self.run_id,
            "port": self.address[1],
            "pid": os.getpid(),
            "uptime": int(now - self.started_at),
            "now": int(time.time()),
            "clock": int(now),
            "connections": self.accepted,
            "commands": self.commands,
        }
        if not names:
            return information.whole(fields, self._replication(now))
        return information.sections(names, fields, self._replication(now))

    def _replication(self, now: float) -> bytes:
        offset, follows = self.offset, self.configuration.follows
        lines = ["# Replication", "role:slave" if follows else "role:master"]
        if follows:
            lines += [
                f"master_host:{follows[0]}",
                f"master_port:{follows[1]}",
                f"master_link_status:{'up' if self.link_up else 'down'}",
                f"master_last_io_seconds_ago:{1 if self.link_up else -1}",
                "master_sync_in_progress:0",
                f"slave_read_repl_offset:{offset}",
                f"slave_repl_offset:{offset}",
            ]
            if not self.link_up:
                down = -1 if self._link_lost_at is None else int(now - self._link_lost_at)
                lines.append(f"master_link_down_since_seconds:{down}")
            lines += [
                f"slave_priority:{self.configuration.priority}",
                "slave_read_only:1",
                f"replica_announced:{int(self.configuration.announced)}",
            ]
        lines.append(f"connected_slaves:{len(self.followers)}")
        for number, replica in enumerate(self.followers):
            ip, port = replica.address
            lines.append(f"slave{number}:ip={ip},port={port},state=online,offset={replica.offset},lag=0")
        lines += [
            "master_failover_state:no-failover",
            f"master_replid:{self.history}",
            f"master_replid2:{self.older_history}",
            f"master_repl_offset:{offset}",
            "second_repl_offset:-1",
            "repl_backlog_active:1",
            "repl_backlog_size:1048576",
            "repl_backlog_first_byte_offset:1",
            f"repl_backlog_histlen:{offset}",
            "",
        ]
        return "\r\n".join(lines).encode()

    def state(self) -> dict[str, object]:
        """The state for the control channel."""
        follows = self.configuration.follows
        return {
            "address": f"{self.address[0]}:{self.address[1]}",
            "state": "dead" if not self.alive else "hanging" if self.hanging else "alive",
            "role": "replica" if follows else "master",
            "master": f"{follows[0]}:{follows[1]}" if follows else None,
            "link": "up" if self.link_up else "down",
            "offset": self.offset,
        }
