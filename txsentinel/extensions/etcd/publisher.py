"""Publishes masters in etcd: a newer config epoch replaces an older one, never the reverse."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from txsentinel.extensions.etcd.client import EtcdClient, EtcdError, encoded, get, prefix_range, unchanged
from txsentinel.extensions.etcd.keys import MasterKeys, StoredValue, stored
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import MasterChange

MAX_ATTEMPTS: Final = 5
"""Transactions for one change, before each of which another Sentinel has written."""


@implementer(IPublisher)
class EtcdPublisher:
    """
    Writes the keys of a master in one transaction, which fails if the key of the epoch was written meanwhile.

    So several Sentinels publish without a coordinator: the first with the newest epoch writes it, and the others find
    it there.
    """

    def __init__(self, client: EtcdClient, settings: EtcdSettings) -> None:
        self._client = client
        self._settings = settings
        self._changes: dict[str, MasterChange] = {}

    @inlineCallbacks
    def publish(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        """See ``IPublisher``."""
        self._changes[change.master] = change
        keys = MasterKeys(self._settings, change.master)
        for _ in range(MAX_ATTEMPTS):
            there = yield self.read(keys)
            outcome = _compare(keys, there, change)
            if outcome is not None:
                return outcome
            revision = there[keys.epoch].revision if keys.epoch in there else 0
            former = keys.servers_with_role(there, "master")
            reply = yield self._client.call(
                "kv/txn",
                {
                    "compare": [unchanged(keys.epoch, revision)],
                    "success": [*keys.master_puts(change), *keys.cleared(change, former)],
                },
            )
            if reply.get("succeeded"):
                return None
        raise EtcdError(f"{MAX_ATTEMPTS} transactions were preceded by those of others")

    @inlineCallbacks
    def verify(self, name: str) -> Generator[Deferred[Any], Any, bool]:
        """See ``IPublisher``."""
        change = self._changes.get(name)
        if change is None:
            return False
        keys = MasterKeys(self._settings, name)
        there = yield self.read(keys)
        outcome = _compare(keys, there, change)
        return outcome is not None and outcome.outcome is not PublishOutcome.CONFLICT

    @inlineCallbacks
    def read(self, keys: MasterKeys) -> Generator[Deferred[Any], Any, dict[str, StoredValue]]:
        """Return the keys of a master itself, and those for confd, as of one revision."""
        selections: list[dict[str, str]] = [{"key": encoded(key)} for key in (keys.master, keys.epoch, keys.json)]
        if keys.servers:
            selections.append(prefix_range(keys.servers))
        reply = yield self._client.call("kv/txn", {"success": [get(each) for each in selections]})
        found: dict[str, StoredValue] = {}
        for response in reply.get("responses") or ():
            found.update(stored(response.get("response_range") or {}))
        return found


def _compare(keys: MasterKeys, there: dict[str, StoredValue], change: MasterChange) -> Publication | None:
    """Return why a change need not, or must not, be written; ``None`` if it must."""
    published = keys.published(there)
    if published is None or published.epoch < change.config_epoch:
        return None
    if published.epoch > change.config_epoch:
        return Publication(PublishOutcome.OUTDATED)
    if published.address != str(change.address):
        return Publication(PublishOutcome.CONFLICT, f"{keys.json} has {published.address} with the same epoch")
    return Publication(PublishOutcome.UNCHANGED) if keys.is_complete(there, change) else None
