"""Follows what the extension publishes in etcd, for programs that run elsewhere: masters with their replicas."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import uniform
from typing import Any, Final
from urllib.parse import unquote

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.extensions.etcd.client import EtcdClient, prefix_range
from txsentinel.extensions.etcd.keys import stored
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.model.snapshots import Endpoint

MAX_DELAY: Final = 5.0
"""The longest time in seconds until etcd is asked again after a failure."""


@dataclass(frozen=True, slots=True)
class FollowedReplica:
    """A replica that a Sentinel considers usable."""

    name: str
    address: Endpoint


@dataclass(frozen=True, slots=True)
class FollowedMaster:
    """A master as etcd has it; the names are those of the records that Sentinels have."""

    name: str
    address: Endpoint
    config_epoch: int
    replicas: tuple[FollowedReplica, ...]


def endpoint_of(text: str) -> Endpoint:
    """
    Parse ``host:port``; an IPv6 host is in brackets.

    :raises ValueError: if it is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!a} is no address")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def masters_of(values: dict[str, str], prefix: str) -> tuple[FollowedMaster, ...]:
    """Return the masters in the values of keys with a prefix, by name; what cannot be parsed is left out."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name, _, rest = key[len(prefix) :].partition("/")
        try:
            if rest == "json":
                document = json.loads(value)
                address = Endpoint(str(document["host"]), int(document["port"]))
                found.setdefault(name, {}).update(address=address, config_epoch=int(document["config_epoch"]))
            elif rest.startswith("replicas/"):
                found.setdefault(name, {}).setdefault("replicas", []).append(FollowedReplica(value, endpoint_of(value)))
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(
        FollowedMaster(
            unquote(name, errors="surrogateescape"),
            each["address"],
            each["config_epoch"],
            tuple(sorted(each.get("replicas", ()), key=lambda replica: replica.name)),
        )
        for name, each in sorted(found.items())
        if "address" in each
    )


class EtcdFollower(Service):
    """
    Watches the keys, and reads them again after each change.

    While etcd is down, or has lost the keys of all masters, the masters stay as they were.

    :param changed: called when :attr:`masters` has changed, and once when it was first read.
    """

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any, client: EtcdClient, settings: EtcdSettings, changed: Callable[[], object]) -> None:
        self._reactor = reactor
        self._client = client
        self._settings = settings
        self._changed = changed
        self._running: Deferred[None] | None = None
        self._revision = 0
        self.masters: tuple[FollowedMaster, ...] = ()
        self.is_known = False
        """Whether the keys were read since the start."""

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._running = self._follow()
        self._running.addErrback(self._ended)

    def stopService(self) -> None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._running is not None:
            self._running.cancel()

    def _ended(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError) or self.running:
            self._log.failure("etcd: following has ended", failure)

    @inlineCallbacks
    def _follow(self) -> Generator[Deferred[Any], Any, None]:
        failures = 0
        while self.running:
            try:
                yield self._read()
                if failures:
                    self._log.info("etcd: is followed again after {count} failures", count=failures)
                failures = 0
                yield self._watch()
            except CancelledError:
                return
            except Exception as error:
                if not failures:
                    self._log.warn("etcd: cannot be followed: {error}", error=str(error) or type(error).__name__)
                failures += 1
                yield deferLater(self._reactor, uniform(0.1, min(MAX_DELAY, 0.2 * 2 ** min(failures, 8))))

    @inlineCallbacks
    def _read(self) -> Generator[Deferred[Any], Any, None]:
        prefix = self._settings.prefix
        reply = yield self._client.call("kv/range", prefix_range(prefix))
        self._revision = int(reply["header"]["revision"])
        values = {key: each.value for key, each in stored(reply).items()}
        masters = tuple(each for each in masters_of(values, prefix) if self._settings.wants(each.name))
        if not masters and self.masters:
            # Sentinels restore their keys within a minute; nothing would be served until then.
            raise ValueError(f"no master has keys with the prefix {prefix} any more")
        if not self.is_known or masters != self.masters:
            self.masters, self.is_known = masters, True
            self._changed()

    def _watch(self) -> Deferred[None]:
        """Wait until a key was written after the revision that was read."""
        request = {**prefix_range(self._settings.prefix), "start_revision": str(self._revision + 1)}
        return self._client.wait_for_line("watch", {"create_request": request}, _has_events)


def _has_events(line: dict[str, Any]) -> bool:
    """
    Whether a line of the stream reports changes.

    :raises ValueError: if etcd has ended the watch, as after a compaction.
    """
    result = line.get("result") or {}
    if "error" in line or result.get("canceled"):
        raise ValueError(str(line.get("error") or result.get("cancel_reason") or "the watch was ended"))
    return bool(result.get("events"))
