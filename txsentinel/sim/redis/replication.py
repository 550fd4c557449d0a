"""
Replication between simulated Redis servers: histories, the link to the master, the stream to replicas.

A history is an ID and a length in bytes. A promoted server remembers the ID and the offset up to which it shares the
history of its former master. A replica that asks for no more than that continues; others get a full copy. Writes are
lost here, as they are in reality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.protocol import ClientFactory

from txsentinel.model.timings import Limits
from txsentinel.sim.redis.client import RedisClient
from txsentinel.sim.redis.dataset import apply
from txsentinel.sim.redis.master_link import MasterLink
from txsentinel.sim.redis.pauses import PauseReason
from txsentinel.sim.redis.persistence import Snapshot
from txsentinel.wire.replies import ReplyReader
from txsentinel.wire.resp import Raw, Value, pack

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
    from twisted.python.failure import Failure

    from txsentinel.sim.host import SimHost

_LIMITS: Final = Limits()

NO_REPLICATION_ID: Final = "0" * 40

NO_FAILOVER: Final = "no-failover"
WAITING_FOR_SYNC: Final = "waiting-for-sync"
FAILOVER_IN_PROGRESS: Final = "failover-in-progress"

CONNECT, CONNECTING, SYNC, CONNECTED = "connect", "connecting", "sync", "connected"
"""States of the link to the master, in the words of ROLE."""


class ReplicatedServer(Protocol):
    """What replication asks of its server."""

    @property
    def host(self) -> SimHost:
        """The machine."""

    @property
    def port(self) -> int:
        """The port on which it listens."""

    @property
    def data(self) -> dict[bytes, bytes]:
        """The data set."""

    @property
    def loading(self) -> bool:
        """Whether it loads its data set."""

    @property
    def sync_seconds(self) -> float:
        """Seconds that making a full copy takes."""

    master_address: tuple[str, int] | None

    def setting(self, name: str) -> str:
        """One setting, as text."""

    def new_id(self) -> str:
        """A new ID of 40 hexadecimal digits."""

    def replicas(self) -> list[RedisClient]:
        """Clients that are replicas, the oldest connection first."""

    def persist(self) -> None:
        """Store the latest write."""

    def save(self) -> None:
        """Write a snapshot of the data set."""

    def publish(self, channel: bytes, message: bytes) -> int:
        """Deliver to the own subscribers; return their number."""

    def pause_clients(self, millis: int | None, writes_only: bool, reason: PauseReason) -> None:
        """Hold commands for that time, or (``None``) until the pause is ended."""

    def unpause_clients(self, reason: PauseReason) -> None:
        """End a pause."""

    def data_was_replaced(self, before: dict[bytes, bytes]) -> None:
        """Notify the observers of the data set that a full copy has replaced ``before``."""

    def role_was_changed(self, was_master: bool, ordered_by: str) -> None:
        """Notify the observers of role changes."""


class _MasterLinkFactory(ClientFactory[MasterLink]):
    noisy = False

    def __init__(self, replication: Replication) -> None:
        self.replication = replication
        self.link: MasterLink | None = None

    def buildProtocol(self, addr: IAddress | None) -> MasterLink | None:
        """Build the protocol of the link."""
        if self.replication.connecting is not self:
            return None
        self.link = self.replication.link = MasterLink(self.replication)
        return self.link

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """The next periodic call tries again."""
        if self.replication.connecting is self:
            self.replication.connecting = None
            self.replication.link_state = CONNECT


class Replication:
    """
    The replication state of one server, from the start of its process on.

    :param snapshot: the one that the data set was loaded from, if any.
    """

    def __init__(self, server: ReplicatedServer, snapshot: Snapshot | None) -> None:
        self.server = server
        self.has_history = snapshot is not None
        """Whether a master could continue at the present offset."""
        self.id, self.offset = server.new_id(), 0
        self.second_id = NO_REPLICATION_ID
        self.second_offset = -1
        self.backlog_active = False
        if snapshot is not None:
            self.offset = snapshot.offset
            if server.master_address is not None:
                self.id = snapshot.replid
            else:
                self.second_id, self.second_offset = snapshot.replid, snapshot.offset + 1
                self.backlog_active = True
        self.link: MasterLink | None = None
        self.connecting: _MasterLinkFactory | None = None
        self.link_state = CONNECT
        self.link_up = False
        self.link_down_since: float | None = None
        """Seconds of the reactor's clock; ``None`` if the link never broke since it was ordered."""
        self.last_io = 0.0
        self.failover_state = NO_FAILOVER
        self._failover_target: tuple[str, int] | None = None
        self._failover_forced = False
        self._failover_ordered_by = ""
        self._failover_timer: IDelayedCall | None = None
        self._backlog = bytearray()
        self.full_copies = self.continuations = self.refused_continuations = 0
        """How often a replica got a full copy, continued, and asked in vain to continue."""
        self._beats = 0
        self._copy_history = self.id

    @property
    def _now(self) -> float:
        return self.server.host.reactor.seconds()

    # Used by the link to the master

    def uses(self, link: MasterLink) -> bool:
        """Whether this is still the link in use."""
        return self.link is link

    def read_from_master(self) -> None:
        """Store when a whole reply or command was read last."""
        self.last_io = self._now

    def handshake(self) -> list[bytes]:
        """The encoded commands that introduce this replica; PSYNC, the last one, requests what is missing."""
        server = self.server
        commands = [pack("PING")]
        if server.setting("masterauth"):
            user = server.setting("masteruser")
            commands.append(pack("AUTH", *([user] if user else []), server.setting("masterauth")))
        port = int(server.setting("replica-announce-port")) or server.port
        commands.append(pack("REPLCONF", "listening-port", port))
        if server.setting("replica-announce-ip"):
            commands.append(pack("REPLCONF", "ip-address", server.setting("replica-announce-ip")))
        commands.append(pack("REPLCONF", "capa", "eof", "capa", "psync2"))
        if self.has_history:
            request: tuple[str | int, ...] = ("PSYNC", self.id, self.offset + 1)
        else:
            request = ("PSYNC", "?", -1)
        if self.failover_state == FAILOVER_IN_PROGRESS:
            request += ("FAILOVER",)
        commands.append(pack(*request))
        return commands

    # Role

    def follow(self, master: tuple[str, int]) -> None:
        """Become a replica of that server; keep the own replicas for the time being."""
        self._drop_link()
        if self.server.master_address is None:
            # The own history may be the beginning of the new master's, if that was a replica of this server.
            self.has_history = self.backlog_active or self.has_history
        self.server.master_address = master
        self.link_down_since = None
        self.connect_to_master()

    def lead(self) -> None:
        """Become a master: share the former history up to this offset and begin an own one."""
        if self.server.master_address is None:
            return
        self._drop_link()
        self.server.master_address = None
        self.link_down_since = None
        self._new_history(self.server.new_id())
        self.has_history = self.backlog_active = True
        self._drop_replicas()

    def connect_to_master(self) -> None:
        """Connect to the master, unless an attempt is in progress."""
        if (
            self.server.master_address is None
            or self.link is not None
            or self.connecting is not None
            or self.server.loading
        ):
            return
        host, port = self.server.master_address
        self.connecting = factory = _MasterLinkFactory(self)
        self.link_state = CONNECTING
        self.last_io = self._now
        self.server.host.reactor.connectTCP(host, port, factory, float(self.server.setting("repl-timeout")))

    def link_failed(self, link: MasterLink) -> None:
        """The link broke or the master refused: close it and try again."""
        if self.link is not link:
            return
        was_up = self.link_up
        self._drop_link()
        if was_up:
            self.link_down_since = self._now
            self.connect_to_master()

    def _drop_link(self) -> None:
        link, self.link = self.link, None
        self.connecting = None
        self.link_up = False
        self.link_state = CONNECT
        if link is not None and link.transport is not None:
            link.abandon()

    def _new_history(self, name: str) -> None:
        self.second_id, self.second_offset = self.id, self.offset + 1
        self.id = name

    # Data from the master

    def copy_begins(self, history: str) -> None:
        """A full copy is on its way; keep the present data until it has arrived."""
        self.link_state = SYNC
        self._copy_history = history
        self._taken_over()

    def copy_arrived(self, copy: bytes, offset: int) -> None:
        """Replace the data by a full copy."""
        reader = ReplyReader(_LIMITS)
        reader.feed(copy)
        words = reader.next_reply()
        assert isinstance(words, list)
        before = dict(self.server.data)
        self.server.data.clear()
        self.server.data.update(zip(words[::2], words[1::2], strict=True))
        self.second_id, self.second_offset = NO_REPLICATION_ID, -1
        self.id, self.offset = self._copy_history, offset
        self._backlog.clear()
        self.server.save()
        self.server.data_was_replaced(before)
        self._drop_replicas()
        self._link_established()

    def continues(self, history: str) -> None:
        """The master sends the rest of the stream; it may use another ID for the history."""
        if history and history != self.id:
            self._new_history(history)
            self._drop_replicas()
        self._taken_over()
        self._link_established()

    def _link_established(self) -> None:
        self.connecting = None
        self.link_up, self.link_state = True, CONNECTED
        self.link_down_since = None
        self.has_history = self.backlog_active = True
        self.server.persist()
        self._acknowledge()

    def stream_arrived(self, words: list[bytes], raw: bytes) -> None:
        """Apply a command of the stream; ``raw`` are its bytes."""
        name = words[0].upper()
        if name == b"PUBLISH":
            self.server.publish(words[1], words[2])
        elif name != b"REPLCONF":
            apply(self.server.data, words)
        self.feed(raw)
        self.server.persist()
        if name == b"REPLCONF":
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self.link is not None and self.link_up:
            self.link.write(pack("REPLCONF", "ACK", self.offset))

    # Data to replicas

    def feed(self, raw: bytes) -> None:
        """Append to the history and send to the replicas; without any replica ever there is no history."""
        if not self.backlog_active:
            return
        self.offset += len(raw)
        self._backlog += raw
        surplus = len(self._backlog) - int(self.server.setting("repl-backlog-size"))
        if surplus > 0:
            del self._backlog[:surplus]
        for replica in self.server.replicas():
            if replica.attached.state == "online":
                replica.send(raw)
            else:
                replica.attached.backlog += raw

    def serve(self, replica: RedisClient, history: str, offset: int) -> Value:
        """Make a client a replica that has ``history`` up to before ``offset``."""
        attached = replica.attached
        attached.acknowledged_at = self._now
        first = self.offset - len(self._backlog) + 1
        shared = history == self.id or (history == self.second_id and offset <= self.second_offset)
        if shared and first <= offset <= self.offset + 1 and self.backlog_active:
            self.continuations += 1
            attached.state = "online"
            attached.acknowledged = offset - 1
            missing = bytes(self._backlog[offset - first :])
            return Raw(f"+CONTINUE {self.id}\r\n".encode() + missing)
        if not self.backlog_active:
            if self.server.master_address is None and not self.has_history:
                self.id = self.server.new_id()
            self.backlog_active = True
        self.full_copies += 1
        self.refused_continuations += history != "?"
        attached.state = "wait_bgsave"
        copy = pack(*(word for item in self.server.data.items() for word in item)) if self.server.data else b"*0\r\n"
        self.server.host.reactor.callLater(self.server.sync_seconds, self._send_copy, replica, copy, self.offset)
        return Raw(f"+FULLRESYNC {self.id} {self.offset}\r\n".encode())

    def _send_copy(self, replica: RedisClient, copy: bytes, offset: int) -> None:
        attached = replica.attached
        attached.state = "online"
        attached.acknowledged = offset
        attached.acknowledged_at = self._now
        replica.send(b"$%d\r\n%b\r\n" % (len(copy), copy) + attached.backlog)
        attached.backlog = b""

    def acknowledged(self, replica: RedisClient, offset: int) -> None:
        """Store the offset that a replica acknowledged."""
        replica.attached.acknowledged = offset
        replica.attached.acknowledged_at = self._now
        self._try_failover()

    def _drop_replicas(self) -> None:
        for replica in self.server.replicas():
            replica.kill()

    # Periodic call

    def beat(self) -> None:
        """Reconnect, acknowledge, send keepalives, and close links that timed out; called once a second."""
        self._beats += 1
        now = self._now
        timeout = int(self.server.setting("repl-timeout"))
        if self.server.master_address is not None:
            if self.link is not None and now - self.last_io > timeout:
                self.link_failed(self.link)
            self.connect_to_master()
            self._acknowledge()
        elif self._beats % int(self.server.setting("repl-ping-replica-period")) == 0 and self.server.replicas():
            self.feed(pack("PING"))
        for replica in self.server.replicas():
            if replica.attached.state == "online" and now - replica.attached.acknowledged_at > timeout:
                replica.kill()

    # FAILOVER

    def start_failover(
        self, target: tuple[str, int] | None, timeout: int, force: bool = False, ordered_by: str = ""
    ) -> None:
        """
        Hold writes until the target (or any replica) has everything, then exchange the roles.

        :param timeout: in ms; when it has passed, ``force`` exchanges the roles all the same.
        """
        self.failover_state = WAITING_FOR_SYNC
        self._failover_target = target
        self._failover_forced = force
        self._failover_ordered_by = ordered_by
        self.server.pause_clients(None, True, PauseReason.FAILOVER)
        if timeout:
            self._failover_timer = self.server.host.reactor.callLater(timeout / 1000, self._failover_late)
        self.feed(pack("REPLCONF", "GETACK", "*"))
        self._try_failover()

    def abort_failover(self) -> None:
        """Stay, or become again, the master."""
        if self.failover_state == FAILOVER_IN_PROGRESS:
            self.lead()
        self._end_failover()

    def _taken_over(self) -> None:
        """The other server has answered PSYNC: it is the master now."""
        if self.failover_state == FAILOVER_IN_PROGRESS:
            self._end_failover()
            self.server.role_was_changed(True, self._failover_ordered_by)

    def refused(self, link: MasterLink) -> None:
        """The other server refused PSYNC: abort a FAILOVER, otherwise try again."""
        if self.link is link and self.failover_state == FAILOVER_IN_PROGRESS:
            self.abort_failover()
        else:
            self.link_failed(link)

    def _try_failover(self) -> None:
        if self.failover_state != WAITING_FOR_SYNC:
            return
        for replica in self.server.replicas():
            address = (replica.replica_host, replica.attached.listening_port)
            if self._failover_target in (None, address) and replica.attached.acknowledged >= self.offset:
                self.failover_state = FAILOVER_IN_PROGRESS
                self.follow(address)
                return

    def _failover_late(self) -> None:
        if self.failover_state != WAITING_FOR_SYNC:
            return
        if self._failover_forced and self._failover_target is not None:
            self.failover_state = FAILOVER_IN_PROGRESS
            self.follow(self._failover_target)
        else:
            self._end_failover()

    def _end_failover(self) -> None:
        self.failover_state = NO_FAILOVER
        timer, self._failover_timer = self._failover_timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self.server.unpause_clients(PauseReason.FAILOVER)
