"""The keys of a master, and what a transaction writes to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from txsentinel.extensions.change_document import change_document
from txsentinel.extensions.etcd.client import decoded, delete, encoded, prefix_range, put
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.model.snapshots import Endpoint, MasterChange

EPOCH_DIGITS: Final = 20
"""Digits of an epoch, so that the order of the texts is that of the numbers."""

_PLAIN: Final = "-_.~:@+,=[]"


def key_part(name: str) -> str:
    """Return a name as one part of a key: other characters, such as slashes, are percent-encoded."""
    return quote(name.encode("utf-8", "surrogateescape"), safe=_PLAIN)


def epoch_text(epoch: int) -> str:
    """Return an epoch as the value of a key."""
    return f"{epoch:0{EPOCH_DIGITS}}"


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A key as etcd has it; ``lease`` is ``0`` without one."""

    value: str
    revision: int
    lease: str


def stored(reply: dict[str, Any]) -> dict[str, StoredValue]:
    """Return the keys of the reply to a range."""
    return {
        decoded(each["key"]): StoredValue(
            decoded(each.get("value", "")), int(each.get("mod_revision", 0)), str(each.get("lease", "0"))
        )
        for each in reply.get("kvs") or ()
    }


@dataclass(frozen=True, slots=True)
class PublishedAddress:
    """What etcd has about a master."""

    address: str
    epoch: int


class MasterKeys:
    """The names of the keys of one master."""

    def __init__(self, settings: EtcdSettings, master: str) -> None:
        self.base = f"{settings.prefix}{key_part(master)}/"
        self.master = f"{self.base}master"
        self.epoch = f"{self.base}epoch"
        self.json = f"{self.base}json"
        self.replicas = f"{self.base}replicas/"
        self.servers = f"{settings.confd_prefix}{key_part(master)}/" if settings.confd else ""
        """The prefix of the keys for confd; empty without them."""

    def replica(self, address: Endpoint) -> str:
        """Return the key of a replica."""
        return f"{self.replicas}{key_part(str(address))}"

    def server(self, address: str) -> str:
        """Return the prefix of a server's keys for confd."""
        return f"{self.servers}{key_part(address)}/"

    def server_puts(self, address: Endpoint, role: str, lease: str = "") -> Iterator[dict[str, Any]]:
        """Yield what sets the keys of a server for confd; nothing without that layout."""
        if self.servers:
            base = self.server(str(address))
            for word, value in (("ip", address.host), ("port", str(address.port)), ("role", role)):
                yield put(base + word, value, lease)

    def master_puts(self, change: MasterChange) -> list[dict[str, Any]]:
        """Return what sets all keys of the master itself."""
        return [
            put(self.master, str(change.address)),
            put(self.epoch, epoch_text(change.config_epoch)),
            put(self.json, json.dumps(change_document(change))),
            *self.server_puts(change.address, "master"),
        ]

    def cleared(self, change: MasterChange, servers: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield what deletes the new master from the replicas, and the former master from the servers for confd."""
        yield delete({"key": encoded(self.replica(change.address))})
        for server in servers:
            if server != self.server(str(change.address)):
                yield delete(prefix_range(server))

    def servers_with_role(self, keys: dict[str, StoredValue], role: str) -> list[str]:
        """Return the prefixes of the servers that have a role for confd."""
        if not self.servers:
            return []
        return [
            key[: -len("role")]
            for key, value in keys.items()
            if key.startswith(self.servers) and key.endswith("/role") and value.value == role
        ]

    def published(self, keys: dict[str, StoredValue]) -> PublishedAddress | None:
        """Return the address and the epoch that etcd has; ``None`` if it has none that can be read."""
        try:
            document = json.loads(keys[self.json].value)
            return PublishedAddress(str(document["address"]), int(keys[self.epoch].value))
        except (KeyError, TypeError, ValueError):
            return None

    def is_complete(self, keys: dict[str, StoredValue], change: MasterChange) -> bool:
        """Whether all keys of the master itself have the values of a change."""
        wanted = {self.master: str(change.address)}
        if self.servers:
            base = self.server(str(change.address))
            wanted.update({f"{base}ip": change.address.host, f"{base}role": "master"})
            if self.servers_with_role(keys, "master") != [base]:
                return False
        return all(key in keys and keys[key].value == value for key, value in wanted.items())
