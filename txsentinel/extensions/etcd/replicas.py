"""
Keeps the keys of replicas in etcd, with a lease.

A key exists while a Sentinel considers the replica usable. The Sentinel that created it keeps its lease alive, and
deletes the key when the replica is down. If that Sentinel ends, another one takes the key over before the lease ends.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.etcd.client import (
    EtcdClient,
    delete,
    encoded,
    has_lease,
    has_value,
    prefix_range,
    put,
    unchanged,
)
from txsentinel.extensions.etcd.keys import MasterKeys, StoredValue, epoch_text, stored
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.extensions.usable_replicas import usable_replicas
from txsentinel.model.snapshots import Endpoint, MasterSnapshot, ViewChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from txsentinel.interfaces import ISentinelView

ROUNDS_PER_LEASE: Final = 6
"""Checks of all masters within the time of a lease; the owner of a key renews its lease as often."""

SECONDS_PER_MASTER: Final = 0.05
"""The shortest time of a round for each master; with very many masters, rounds and leases are longer."""

PAUSE: Final = 0.01
"""Seconds between the checks of two masters."""

CHANGE_DELAY: Final = 1.0
"""Seconds from a change of replicas to the check of their master, which covers further changes."""


class ReplicaKeys(Service):
    """Checks all masters some times within the time of a lease, and one master after each change of its replicas."""

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: IReactorTime,
        view: ISentinelView,
        client: EtcdClient,
        settings: EtcdSettings,
        wanted: Callable[[str], bool],
    ) -> None:
        self._reactor = reactor
        self._view = view
        self._client = client
        self._settings = settings
        self._wanted = wanted
        self._lease = ""
        self._renewed_at: float | None = None
        self._abandoned: dict[str, bool] = {}
        """Lease of another Sentinel → whether it was not renewed, as of this round."""

        self._seen: dict[str, frozenset[str]] = {}
        self._changed_masters: set[str] = set()
        self._next_round = 0.0
        self._call: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._failed = False

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._unsubscribe = self._view.subscribe(self._changed)
        self._schedule(CHANGE_DELAY)

    def stopService(self) -> None:
        """Stop. The keys stay for the rest of their lease, in which other Sentinels take them over."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._running is not None:
            self._running.cancel()

    def _changed(self, change: ViewChange) -> None:
        name = change.master
        if name is None or change.event is not None or not self._wanted(name) or name not in self._view.names():
            return
        replicas = frozenset(usable_replicas(self._view.master(name)))
        if replicas != self._seen.get(name):
            self._seen[name] = replicas
            self._changed_masters.add(name)
            if self._running is None:
                self._schedule(CHANGE_DELAY)

    def _schedule(self, delay: float) -> None:
        if not self.running:
            return
        if self._call is not None:
            if self._call.getTime() <= self._reactor.seconds() + delay:
                return
            self._call.cancel()
        self._call = self._reactor.callLater(delay, self._begin)

    def _begin(self) -> None:
        self._call = None
        if self._running is not None:
            return
        now = self._reactor.seconds()
        if now >= self._next_round:
            self._next_round = now + self._round_seconds()
            names = [name for name in self._view.names() if self._wanted(name)]
        else:
            names = [name for name in self._view.names() if name in self._changed_masters]
        self._changed_masters.clear()
        running = self._running = self._check(names)
        running.addErrback(self._not_checked)
        running.addBoth(self._ended)

    def _round_seconds(self) -> float:
        count = sum(self._wanted(name) for name in self._view.names())
        return max(self._settings.lease / ROUNDS_PER_LEASE, count * SECONDS_PER_MASTER)

    def _not_checked(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            return
        if not self._failed:
            self._log.warn("etcd: keys of replicas cannot be written: {error}", error=failure.getErrorMessage())
        self._failed = True

    def _ended(self, result: object) -> None:
        self._running = None
        soon = CHANGE_DELAY if self._changed_masters else self._settings.lease
        self._schedule(min(soon, max(self._next_round - self._reactor.seconds(), 0.1)))

    @inlineCallbacks
    def _check(self, names: Iterable[str]) -> Generator[Deferred[Any], Any, None]:
        self._abandoned.clear()
        for name in names:
            yield self._renew()
            if name in self._view.names():
                yield self._check_master(self._view.master(name))
            yield deferLater(self._reactor, PAUSE)
        if self._failed:
            self._failed = False
            self._log.info("etcd: keys of replicas are written again")

    @inlineCallbacks
    def _renew(self) -> Generator[Deferred[Any], Any, None]:
        """Keep the lease alive if it is time, or get a new one."""
        now, seconds = self._reactor.seconds(), self._round_seconds()
        if self._renewed_at is not None and now < self._renewed_at + seconds / 2:
            return
        if self._lease:
            reply = yield self._client.call("lease/keepalive", {"ID": self._lease})
            if int((reply.get("result") or {}).get("TTL") or 0) > 0:
                self._renewed_at = now
                return
        reply = yield self._client.call("lease/grant", {"TTL": str(int(seconds * ROUNDS_PER_LEASE))})
        self._lease, self._renewed_at = str(reply["ID"]), now

    @inlineCallbacks
    def _check_master(self, master: MasterSnapshot) -> Generator[Deferred[Any], Any, None]:
        keys = MasterKeys(self._settings, master.name)
        reply = yield self._client.call("kv/range", prefix_range(keys.replicas))
        there = stored(reply)
        wanted = {keys.replica(address): address for address in usable_replicas(master).values()}
        for key, address in wanted.items():
            value = there.get(key)
            abandoned = False
            if value is not None and value.lease != self._lease:
                abandoned = yield self._is_abandoned(value.lease)
            if value is None or abandoned:
                yield self._create(keys, master, key, address, value)
        for key, value in there.items():
            if key not in wanted and value.lease == self._lease:
                yield self._delete(keys, key, value)

    @inlineCallbacks
    def _is_abandoned(self, lease: str) -> Generator[Deferred[Any], Any, bool]:
        """Return whether the owner of a lease has not renewed it for half of its time."""
        known = self._abandoned.get(lease)
        if known is not None:
            return known
        reply = yield self._client.call("lease/timetolive", {"ID": lease})
        abandoned = int(reply.get("TTL") or 0) < int(reply.get("grantedTTL") or 0) / 2
        self._abandoned[lease] = abandoned
        return abandoned

    @inlineCallbacks
    def _create(
        self, keys: MasterKeys, master: MasterSnapshot, key: str, address: Endpoint, there: StoredValue | None
    ) -> Generator[Deferred[Any], Any, None]:
        """Create the keys of a replica, or take them over; not if another Sentinel is faster, or the master moved."""
        yield self._client.call(
            "kv/txn",
            {
                "compare": [
                    unchanged(key, 0 if there is None else there.revision),
                    has_value(keys.epoch, epoch_text(master.config_epoch)),
                    has_value(keys.master, str(master.address)),
                ],
                "success": [
                    put(key, str(address), self._lease),
                    *keys.server_puts(address, "replica", self._lease),
                ],
            },
        )

    @inlineCallbacks
    def _delete(self, keys: MasterKeys, key: str, there: StoredValue) -> Generator[Deferred[Any], Any, None]:
        """Delete the keys of a replica if they are still ours; not the server's keys if it is the master now."""
        operations = [delete({"key": encoded(key)})]
        if keys.servers:
            server = keys.server(there.value)
            operations.append(
                {
                    "requestTxn": {
                        "compare": [has_lease(f"{server}role", self._lease)],
                        "success": [delete(prefix_range(server))],
                    }
                }
            )
        yield self._client.call("kv/txn", {"compare": [has_lease(key, self._lease)], "success": operations})
