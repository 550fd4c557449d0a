"""The members of a group that do not exist any more, and the servers that are not to be promoted."""

from __future__ import annotations

from dataclasses import dataclass, field

from txsentinel.model.address import Address
from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True)
class MembershipRequest:
    """
    An order that all Sentinels of a group get.

    ``requested_unix`` and ``request_id`` are those of the Sentinel that was asked; ``until_unix`` is by our clock.
    """

    lasting: Millis
    """How long it is in force, from now on."""

    until_unix: Millis
    requested_unix: Millis
    request_id: str
    by: str
    """Who ordered it."""


@dataclass(slots=True)
class Tombstone:
    """
    A Sentinel or a replica that was removed, as it does not exist any more, and is not added again without evidence.

    Until ``generation`` is durable, the member is kept, and counts, so that every majority is one of the saved group.
    """

    address: Address
    sentinel_id: str | None
    """``None`` for a replica."""

    until: Millis
    generation: int = 0
    """0 once the member was removed."""

    confirmed_by: dict[str, None] = field(default_factory=dict)
    """IDs of the other Sentinels that are known to have removed it as well."""


@dataclass(slots=True)
class ParkedServer:
    """A server that is not promoted until ``until``, as it is about to be stopped."""

    address: Address
    parked_run_id: str
    """Its run ID when it was parked; another one, in sync with its master, ends the parking. Empty if unknown."""

    until: Millis


@dataclass(slots=True)
class Membership:
    """The tombstones and the parked servers of one master, from the durable records; by ID, or ``host:port``."""

    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    parked: dict[str, ParkedServer] = field(default_factory=dict)
    unsaved: int = 0
    """Number of tombstones that are not durable yet."""

    expired_at: Millis | None = None
    """When a member was last removed because of ``forget-sentinels-after`` or ``forget-replicas-after``."""

    def parking_of(self, address: Address, now: Millis) -> ParkedServer | None:
        """Return why the server at ``address`` is not to be promoted at ``now``, if that is so."""
        for server in self.parked.values():
            if now < server.until and server.address.same(address):
                return server
        return None

    def tombstone_of(self, address: Address, now: Millis) -> str | None:
        """Return the name of the tombstone of the replica at ``address``, if there is one at ``now``."""
        for name, tombstone in self.tombstones.items():
            if tombstone.sentinel_id is None and now < tombstone.until and tombstone.address.same(address):
                return name
        return None

    def unparked(self, address: Address) -> Membership:
        """Return a copy in which the server at ``address`` is not parked."""
        parked = {name: each for name, each in self.parked.items() if not each.address.same(address)}
        return Membership(self.tombstones, parked, self.unsaved, self.expired_at)

    def is_leaving(self, sentinel_id: str | None, address: Address) -> bool:
        """
        Whether the Sentinel with that ID, or the replica at ``address``, is removed as soon as that is durable.

        :param sentinel_id: ``None`` for a replica.
        """
        if not self.unsaved:
            return False
        for tombstone in self.tombstones.values():
            if tombstone.generation and tombstone.sentinel_id == sentinel_id:
                if sentinel_id is not None or tombstone.address.same(address):
                    return True
        return False
