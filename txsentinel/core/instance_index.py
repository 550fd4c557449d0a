"""
Instances by address, by host name and by ID, so that no search takes longer with more masters.

With thousands of masters that fail together, or whose names are resolved, there are as many searches as masters.
"""

from __future__ import annotations

from collections.abc import Iterable

from txsentinel.core.instances import Instance, Master, Peer
from txsentinel.model.address import Address


class InstanceIndex:
    """Instances of a registry, which adds and removes each with the address that it has at that moment."""

    def __init__(self) -> None:
        self._masters: dict[tuple[str, int], tuple[Master, ...]] = {}
        """By IP and by name in lower case, each with the port."""

        self._named: dict[str, dict[Instance, None]] = {}
        """By host name in lower case, unless it is an IP address."""

        self._peers: dict[str, dict[Peer, None]] = {}
        """By ID."""

    def add(self, instance: Instance) -> None:
        """Add an instance, which is not in the index."""
        address = instance.address
        if isinstance(instance, Master):
            for key in _keys(address):
                self._masters[key] = (*self._masters.get(key, ()), instance)
        elif isinstance(instance, Peer):
            self._peers.setdefault(instance.name, {})[instance] = None
        if address.hostname != address.ip:
            self._named.setdefault(address.hostname.casefold(), {})[instance] = None

    def remove(self, instance: Instance) -> None:
        """Remove an instance, whose address is the one with which it was added."""
        address = instance.address
        if isinstance(instance, Master):
            for key in _keys(address):
                others = tuple([each for each in self._masters.get(key, ()) if each is not instance])
                if others:
                    self._masters[key] = others
                else:
                    self._masters.pop(key, None)
        elif isinstance(instance, Peer):
            peers = self._peers.get(instance.name)
            if peers is not None:
                peers.pop(instance, None)
                if not peers:
                    del self._peers[instance.name]
        if address.hostname != address.ip:
            name = address.hostname.casefold()
            named = self._named.get(name)
            if named is not None:
                named.pop(instance, None)
                if not named:
                    del self._named[name]

    def masters_at(self, address: Address) -> tuple[Master, ...]:
        """Return the masters whose address is the same."""
        found: tuple[Master, ...] = ()
        for key in _keys(address):
            for master in self._masters.get(key, ()):
                if master.address.same(address) and master not in found:
                    found = (*found, master)
        return found

    def named(self, name: str) -> list[Instance]:
        """Return the instances that have a host name in lower case."""
        return list(self._named.get(name, ()))

    def names(self) -> set[str]:
        """Return the host names in lower case that instances have."""
        return set(self._named)

    def peers(self, peer_id: str) -> Iterable[Peer]:
        """Return the peers with an ID, one per master; changes are not permitted meanwhile."""
        return self._peers.get(peer_id, ())


def _keys(address: Address) -> list[tuple[str, int]]:
    """Return the keys under which a master is found: two addresses that are the same have one in common."""
    ip, name = address.ip, address.hostname
    keys = [(ip, address.port)] if ip else []
    if name and name != ip:
        keys.append((name.casefold(), address.port))
    return keys
