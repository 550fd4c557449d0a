"""Publishes masters in Consul: a newer config epoch replaces an older one, never the reverse."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from txsentinel.extensions.change_document import change_document
from txsentinel.extensions.consul.client import (
    ConsulClient,
    ConsulEntry,
    ConsulError,
    check_key,
    delete_service,
    set_key,
    set_node,
    set_service,
)
from txsentinel.extensions.consul.settings import ConsulSettings
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import Endpoint, MasterChange

MAX_ATTEMPTS: Final = 5
"""Attempts to write, before each of which another Sentinel has written."""

MAX_REPLICAS: Final = 60
"""Replicas of one master that are registered: a transaction may have 128 operations."""


@implementer(IPublisher)
class ConsulPublisher:
    """
    Writes the key of a master, and its services in the same transaction, unless the key was changed since it was read.

    :param replicas: returns the usable replicas of a master.
    """

    def __init__(
        self, client: ConsulClient, settings: ConsulSettings, replicas: Callable[[str], Iterable[Endpoint]]
    ) -> None:
        self._client = client
        self._settings = settings
        self._replicas = replicas
        self._changes: dict[str, MasterChange] = {}

    def key(self, master: str) -> str:
        """Return the key of a master, whose name is one part of it."""
        name = quote(master.encode("utf-8", "surrogateescape"), safe="-_.~:@+,=[]")
        return f"{self._settings.prefix}{name}"

    @inlineCallbacks
    def publish(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        """See ``IPublisher``."""
        self._changes[change.master] = change
        key, value = self.key(change.master), json.dumps(change_document(change)).encode()
        for _ in range(MAX_ATTEMPTS):
            entry = yield self._client.read(key)
            outcome = _compare(key, entry, change)
            if outcome is not None:
                if outcome.outcome is PublishOutcome.UNCHANGED:
                    yield self._refresh(change, entry.index)
                return outcome
            if self._settings.service:
                operations = yield self._service_operations(change)
                written = yield self._client.commit([set_key(key, value, entry.index), *operations])
            else:
                written = yield self._client.write(key, value, entry.index)
            if written:
                return None
        raise ConsulError(f"{MAX_ATTEMPTS} attempts were preceded by writes of others")

    @inlineCallbacks
    def verify(self, name: str) -> Generator[Deferred[Any], Any, bool]:
        """See ``IPublisher``. Services that differ are registered again at once."""
        change = self._changes.get(name)
        if change is None:
            return False
        entry = yield self._client.read(self.key(name))
        outcome = _compare(self.key(name), entry, change)
        if outcome is None or outcome.outcome is PublishOutcome.CONFLICT:
            return False
        if outcome.outcome is PublishOutcome.UNCHANGED:
            yield self._refresh(change, entry.index)
        return True

    @inlineCallbacks
    def _refresh(self, change: MasterChange, index: int) -> Generator[Deferred[Any], Any, None]:
        """Make the services those of a change, unless the key was changed since an index."""
        if self._settings.service:
            operations = yield self._service_operations(change)
            if operations:
                yield self._client.commit([check_key(self.key(change.master), index), *operations])

    @inlineCallbacks
    def _service_operations(self, change: MasterChange) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """Return what makes the services in the catalogue those of a change; empty if they are."""
        node, name = self._settings.node, change.master
        there = {
            each["ServiceID"]: (each["ServiceAddress"], each["ServicePort"], each["ServiceTags"])
            for each in (yield self._client.services(name))
            if each["Node"] == node
        }
        wanted = {f"{name}-master": (change.address.host, change.address.port, ["master"])}
        for replica in sorted(self._replicas(name), key=str)[:MAX_REPLICAS]:
            if replica != change.address:
                wanted[f"{name}-replica-{replica}"] = (replica.host, replica.port, ["replica"])
        operations = [
            set_service(node, {"ID": each, "Service": name, "Address": host, "Port": port, "Tags": tags})
            for each, (host, port, tags) in wanted.items()
            if there.get(each) != (host, port, tags)
        ]
        if operations and not there:
            operations.insert(0, set_node(node, change.address.host))
        return operations + [delete_service(node, each) for each in there if each not in wanted]


def _compare(key: str, entry: ConsulEntry, change: MasterChange) -> Publication | None:
    """Return why a change need not, or must not, be written; ``None`` if it must."""
    try:
        document = json.loads(entry.value)
        address, epoch = str(document["address"]), int(document["config_epoch"])
    except (KeyError, TypeError, ValueError):
        return None
    if epoch < change.config_epoch:
        return None
    if epoch > change.config_epoch:
        return Publication(PublishOutcome.OUTDATED)
    if address != str(change.address):
        return Publication(PublishOutcome.CONFLICT, f"the key {key} has {address} with the same epoch")
    return Publication(PublishOutcome.UNCHANGED)
