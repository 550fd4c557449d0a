"""
Invariants of the data, checked on the servers themselves.

======= ==============================================================================================
data    a replica that could be promoted does not lose acknowledged writes because its master restarted without them,
        unless it copied the loss before the Sentinels could act
S18     no replica that copied such a loss is promoted while the leader knows one that holds the data
======= ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from txsentinel.core.instances import Master
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.records import Records, SentinelRecord
from txsentinel.sim.redis.instance import RedisInstance

GRACE: Final = 1.0
"""Seconds after the restart of an empty master within which the Sentinels must have promoted a replica."""

INFO_AGE: Final = 0.3
"""Seconds within which a Sentinel has INFO of all replicas while it judges a restart."""

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
        self._losses: dict[str, Loss] = {}
        self._emptied: dict[RedisInstance, float] = {}
        """Replica → when it copied a loss."""

        for server in self._fleet.servers:
            server.started = self._started
            server.data_replaced = self._replaced

    def _started(self, server: RedisInstance, before: dict[bytes, bytes]) -> None:
        """A process started with the data set of its disk; ``before`` is that of the process before it."""
        name = self._records.master_at(server.host.ip)
        lost = frozenset(before.keys() - server.data.keys())
        if name is not None and server.master_address is None and lost:
            now = self._records.now
            self._losses[name] = Loss(server, now, lost, self._is_stable(now) and self._able(name, server))

    def _replaced(self, replica: RedisInstance, before: dict[bytes, bytes]) -> None:
        """A replica replaced its data set by a full copy."""
        name = self._records.master_at(replica.host.ip)
        loss = None if name is None else self._losses.get(name)
        now = self._records.now
        if loss is None or replica.master_address != loss.server.address or now - loss.at > LIFETIME:
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
        """A Sentinel orders the server at ``ip`` to become a master (S18)."""
        loss, now = self._losses.get(master.name), self._records.now
        emptied_at = self._emptied.get(self._records.server_at(ip))
        if loss is None or emptied_at is None or not loss.at <= emptied_at < now - INFO_AGE or now - loss.at > LIFETIME:
            return
        for replica in master.replicas.values():
            server = self._records.server_at(replica.address.ip)
            reported = replica.info_refreshed_at
            fresh = reported is not None and record.sentinel.host.now() - reported <= INFO_AGE * 1000
            if fresh and replica.link.commands_up and not replica.is_down and _may_lead(server):
                if loss.keys <= server.data.keys() and not replica.promotion_refusal:
                    text = f"{record.sentinel.name} promoted {ip}, which copied a loss, and not {server.host.name}"
                    self._records.expect(False, "S18", text)

    def is_missing_at(self, ip: str) -> bool:
        """Whether the server at ``ip`` restarted a moment ago without keys that another server of its group holds."""
        name = self._records.master_at(ip)
        loss = None if name is None else self._losses.get(name)
        if loss is None or loss.server.host.ip != ip or self._records.now - loss.at > LIFETIME:
            return False
        others = (group.servers for group in self._fleet.masters if group.name == name)
        return any(loss.keys & server.data.keys() for servers in others for server in servers)

    def _able(self, name: str, server: RedisInstance) -> bool:
        """Whether every Sentinel is free to fail over, and ours are enough to agree."""
        ours = self._fleet.sentinels
        for sentinel in ours:
            master = sentinel.alive.core.registry.masters.get(name) if sentinel.running else None
            if master is None or master.address.ip != server.host.ip or master.is_down or master.failover is not None:
                return False
            if master.attempt_started_at is not None or master.options.quorum > len(ours):
                return False
            if len(master.replicas) != self._fleet.shape.replicas or len(ours) < master.majority:
                return False
        return True


def _may_lead(server: RedisInstance) -> bool:
    """Whether the server runs and may be promoted."""
    return server.host.running and server.setting("replica-priority") != "0"
