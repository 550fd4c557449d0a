"""
Invariants of the data, checked on the servers themselves.

======= ==============================================================================================
data    a replica that could be promoted does not lose acknowledged writes because its master restarted without them,
        unless it copied the loss before the Sentinels could act; and no replica that copied such a loss is promoted
        while the leader knows one that holds the data
S18     no replica with the data of another group is promoted, if it has reported that to a leader that knows its own
======= ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from txsentinel.core.instances import Master, Replica
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.records import NEVER, Records, SentinelRecord
from txsentinel.sim.redis.instance import RedisInstance

GRACE: Final = 1.0
"""Seconds after the restart of an empty master within which the Sentinels must have promoted a replica."""

LIFETIME: Final = 10.0
"""Seconds after which a loss is no longer judged."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A master that restarted without keys that it had."""

    server: RedisInstance
    at: float
    keys: frozenset[bytes]
    avoidable: bool
    """Whether nothing kept the Sentinels from a failover at that time."""


class DataChecker:
    """
    Check the data of one fleet.

    :param is_stable: takes a time, returns whether there has been no fault since a while before then.
    """

    def __init__(self, records: Records, is_stable: Callable[[float], bool]) -> None:
        self._fleet: Fleet = records.fleet
        self._records = records
        self._is_stable = is_stable
        self._losses: dict[RedisInstance, Loss] = {}
        """Server → its latest restart without keys that it had."""

        self._emptied: dict[RedisInstance, float] = {}
        """Replica → when it copied a loss."""
        self._copied: dict[RedisInstance, float] = {}
        """Replica → when it last got a full copy."""

        for server in self._fleet.servers:
            server.started = self._started
            server.data_replaced = self._replaced

    def _started(self, server: RedisInstance, before: dict[bytes, bytes]) -> None:
        """A process started with the data set of its disk; ``before`` is that of the process before it."""
        name = self._records.master_at(server.host.ip)
        lost = frozenset(before.keys() - server.data.keys())
        if name is not None and server.master_address is None and lost:
            now = self._records.now
            self._losses[server] = Loss(server, now, lost, self._is_stable(now) and self._able(name, server))

    def _replaced(self, replica: RedisInstance, before: dict[bytes, bytes]) -> None:
        """A replica replaced its data set by a full copy."""
        now = self._copied[replica] = self._records.now
        loss = next((each for each in self._losses.values() if each.server.address == replica.master_address), None)
        if loss is None or now - loss.at > LIFETIME:
            return
        gone = (loss.keys & before.keys()) - replica.data.keys()
        if not gone:
            return
        self._emptied[replica] = now
        if loss.avoidable and now - loss.at > GRACE and self._is_stable(now) and _may_lead(replica):
            when = f"{now - loss.at:.3f} s after {loss.server.host.name} restarted"
            text = f"{replica.host.name} lost {len(gone)} keys {when}"
            self._records.expect(False, "data", text)

    def promoted(self, record: SentinelRecord, master: Master, ip: str) -> None:
        """A Sentinel orders the server at ``ip`` to become a master."""
        self._check_lineage(record, master, ip)
        now, server = self._records.now, self._records.server_at(ip)
        emptied_at = self._emptied.get(server)
        if emptied_at is None or self._reported_at(record, master, ip) <= emptied_at:
            return
        for loss in self._losses.values():
            if self._records.master_at(loss.server.host.ip) != master.name or not loss.at <= emptied_at:
                continue
            if now - loss.at > LIFETIME or loss.keys <= server.data.keys():
                continue
            for replica in master.replicas.values():
                self._check_better(record, replica, server, loss)

    def _check_better(self, record: SentinelRecord, replica: Replica, promoted: RedisInstance, loss: Loss) -> None:
        """Check that ``replica`` was no better choice than a server that copied the loss."""
        server = self._records.server_at(replica.address.ip)
        knows = self._reported_at(record, replica.master, replica.address.ip) > loss.at
        if knows and replica.link.commands_up and not replica.is_down and _may_lead(server):
            if loss.keys <= server.data.keys() and not replica.promotion_refusal:
                text = f"{record.sentinel.name} promoted {promoted.host.name}, which copied a loss"
                self._records.expect(False, "data", f"{text}, and not {server.host.name}")

    def _reported_at(self, record: SentinelRecord, master: Master, ip: str) -> float:
        """Simulated time at which the last INFO of a replica arrived; before the beginning if none did."""
        for replica in master.replicas.values():
            if replica.address.ip == ip and replica.info_refreshed_at is not None:
                return self._records.now - (record.sentinel.host.now() - replica.info_refreshed_at) / 1000
        return NEVER

    def _check_lineage(self, record: SentinelRecord, master: Master, ip: str) -> None:
        server = self._records.server_at(ip)
        own = master.name.encode() + b":"
        if master.lineage.histories and self._reported_at(record, master, ip) > self._copied.get(server, 0.0):
            foreign = any(not key.startswith(own) for key in server.data)
            self._records.expect(
                not foreign, "S18", f"{record.sentinel.name} promoted {ip} with the data of another group"
            )

    def is_missing_at(self, ip: str) -> bool:
        """Whether the server at ``ip`` restarted without keys that another server of its group still holds."""
        own = self._records.server_at(ip)
        loss = self._losses.get(own)
        if loss is None:
            return False
        name, missing = self._records.master_at(ip), loss.keys - own.data.keys()
        others = (group.servers for group in self._fleet.masters if group.name == name)
        return any(missing & server.data.keys() for servers in others for server in servers)

    def was_missing_to(self, record: SentinelRecord, master: Master) -> bool:
        """Whether a replica that copied the loss of ``master`` has last reported to this Sentinel before that."""
        loss = self._losses.get(self._records.server_at(master.address.ip))
        if loss is None:
            return False
        return any(
            loss.at < self._reported_at(record, master, replica.host.ip) <= emptied_at
            for replica, emptied_at in self._emptied.items()
        )

    def _able(self, name: str, server: RedisInstance) -> bool:
        """Whether every Sentinel is free to fail over, and ours are enough to agree."""
        ours = self._fleet.sentinels
        for sentinel in ours:
            master = sentinel.alive.core.registry.masters.get(name) if sentinel.running else None
            if master is None or master.address.ip != server.host.ip or master.is_down or master.failover is not None:
                return False
            if master.attempt_started_at is not None or master.options.quorum > len(ours):
                return False
            if not master.options.guards.empty_restart_failover:
                return False
            if len(master.replicas) != self._fleet.shape.replicas or len(ours) < master.majority:
                return False
        return True


def _may_lead(server: RedisInstance) -> bool:
    """Whether the server runs and may be promoted."""
    return server.host.running and server.setting("replica-priority") != "0"
