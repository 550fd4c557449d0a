"""Publishes masters in the zone, fenced by their config epochs."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import dns.message
from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from txsentinel.extensions.dns.messages import (
    EPOCH,
    TAKEN,
    DnsFailed,
    MessageMaker,
    PublishedEpoch,
    check,
    published_epoch,
    record_text,
    values,
)
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import Endpoint, MasterChange

if TYPE_CHECKING:
    from collections.abc import Generator

    from txsentinel.extensions.dns.settings import DnsSettings

MAX_ATTEMPTS: Final = 5
"""How often an update is made again because another Sentinel was faster."""


@implementer(IPublisher)
class DnsPublisher:
    """
    Publishes masters.

    :param send: sends a message to the primary and fires with the answer.
    """

    def __init__(self, settings: DnsSettings, send: Callable[[bytes], Deferred[bytes]]) -> None:
        self._maker = MessageMaker(settings)
        self._send = send
        self._latest: dict[str, MasterChange] = {}

    @inlineCallbacks
    def publish(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        """
        Make a change known, unless the zone has a newer one. See ``IPublisher``.

        :raises DnsFailed: if the server refuses, or another one changes the zone all the time.
        :raises ValueError: if the master cannot have a name in the zone.
        """
        self._latest[change.master] = change
        for _ in range(MAX_ATTEMPTS):
            before: PublishedEpoch | None = yield self._published(change.master)
            if before is not None:
                if before.config_epoch > change.config_epoch:
                    return Publication(PublishOutcome.OUTDATED)
                if before.config_epoch == change.config_epoch and before.address != str(change.address):
                    return Publication(PublishOutcome.CONFLICT, f"the zone has {before.address} with the same epoch")
                if before.text == record_text(change.address, change.config_epoch):
                    if (yield self._has_records(change.master, change.address)):
                        return Publication(PublishOutcome.UNCHANGED)
            message = self._maker.update(change.master, change.address, change.config_epoch, before)
            answer = yield self._ask(message)
            if check(answer, *TAKEN) not in TAKEN:
                return None
        raise DnsFailed(f"others have changed {change.master} {MAX_ATTEMPTS} times meanwhile")

    @inlineCallbacks
    def verify(self, name: str) -> Generator[Deferred[Any], Any, bool]:
        """Return whether the zone has what was published, or something newer."""
        change = self._latest.get(name)
        if change is None:
            return False
        found: PublishedEpoch | None = yield self._published(name)
        if found is None or found.config_epoch < change.config_epoch:
            return False
        if found.config_epoch > change.config_epoch:
            return True
        if found.address != str(change.address):
            return False
        has_records: bool = yield self._has_records(name, change.address)
        return has_records

    @inlineCallbacks
    def _published(self, master: str) -> Generator[Deferred[Any], Any, PublishedEpoch | None]:
        name = self._maker.name(master, EPOCH)
        answer = yield self._ask(self._maker.query(name, "TXT"))
        return published_epoch(values(answer, name, "TXT"))

    @inlineCallbacks
    def _has_records(self, master: str, address: Endpoint) -> Generator[Deferred[Any], Any, bool]:
        """Whether the records that clients use are those of the address."""
        for name, kind, value in self._maker.expected(master, address):
            answer = yield self._ask(self._maker.query(name, kind))
            if not same(values(answer, name, kind), [value]):
                return False
        return True

    def _ask(self, message: dns.message.Message) -> Deferred[dns.message.Message]:
        sent: Deferred[Any] = self._send(message.to_wire())
        return sent.addCallback(lambda wire: self._maker.read(message, wire))


def same(found: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether values of records are equal; names do not differ by the case of letters."""
    return [each.lower() for each in found] == [each.lower() for each in wanted]
