"""Publishes masters in objects of Kubernetes, fenced by config epochs and the versions of the objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from txsentinel.extensions.kubernetes.api import CORE, SLICES, ApiConflict, ApiFailed, KubernetesApi
from txsentinel.extensions.kubernetes.objects import (
    MASTER,
    REPLICA,
    StatedAddress,
    UnsuitableObject,
    endpoint_slice,
    is_pod_of,
    leads_to,
    pod_patch,
    published,
    slice_name,
)
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import MasterChange

if TYPE_CHECKING:
    from collections.abc import Generator

    from txsentinel.extensions.kubernetes.settings import KubernetesSettings

MAX_ATTEMPTS: Final = 10
"""How often objects are read again because another program has changed them meanwhile."""


@implementer(IPublisher)
class KubernetesPublisher:
    """
    Writes an EndpointSlice, labels of Pods, or both.

    Each request to write names the version of the object that was read, so the API refuses one that is based on
    what is out of date.
    """

    def __init__(self, api: KubernetesApi, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._latest: dict[str, MasterChange] = {}

    @inlineCallbacks
    def publish(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        """
        Make a change known, unless the objects have a newer one. See ``IPublisher``.

        :raises ApiFailed: if the API refuses a request.
        :raises UnsuitableObject: if the change does not fit the objects.
        """
        self._latest[change.master] = change
        for _ in range(MAX_ATTEMPTS):
            try:
                done: Publication | None = yield self._attempt(change)
            except ApiConflict:
                continue
            return done
        raise ApiFailed(f"the objects of {change.master} have changed {MAX_ATTEMPTS} times meanwhile")

    @inlineCallbacks
    def verify(self, name: str) -> Generator[Deferred[Any], Any, bool]:
        """Return whether the objects have what was published, or something newer."""
        change = self._latest.get(name)
        if change is None:
            return False
        slices, pods = yield self._read(name)
        refusal = compare(change, [*([] if slices is None else [slices]), *pods])
        if refusal is not None:
            return refusal.outcome is PublishOutcome.OUTDATED
        return self._slice_is_right(change, slices) and not self._patches(change, pods)

    @inlineCallbacks
    def _attempt(self, change: MasterChange) -> Generator[Deferred[Any], Any, Publication | None]:
        slices, pods = yield self._read(change.master)
        refusal = compare(change, [*([] if slices is None else [slices]), *pods])
        if refusal is not None:
            return refusal
        is_right = self._slice_is_right(change, slices)
        if not is_right:
            yield self._write_slice(change, slices)
        patches = self._patches(change, pods)
        for name, patch in patches:
            yield self._api.patch(CORE, f"pods/{name}", patch)
        return Publication(PublishOutcome.UNCHANGED) if is_right and not patches else None

    @inlineCallbacks
    def _read(self, master: str) -> Generator[Deferred[Any], Any, tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
        """Return the EndpointSlice and the Pods of a master."""
        found: dict[str, Any] | None = None
        pods: list[dict[str, Any]] = []
        service, selector = self._settings.services.get(master), self._settings.pods.get(master)
        if service is not None:
            found = yield self._api.get(SLICES, f"endpointslices/{slice_name(service)}")
        if selector is not None:
            listed = yield self._api.get(CORE, "pods", selector)
            ended = ("Succeeded", "Failed")
            items = (listed or {}).get("items") or ()
            pods = [each for each in items if (each.get("status") or {}).get("phase") not in ended]
        return found, pods

    def _slice(self, change: MasterChange, version: str | None) -> dict[str, Any]:
        settings = self._settings
        service = settings.services[change.master]
        return endpoint_slice(
            settings.namespace, service, settings.port_name, change.address, change.config_epoch, version
        )

    def _slice_is_right(self, change: MasterChange, found: dict[str, Any] | None) -> bool:
        if change.master not in self._settings.services:
            return True
        if found is None:
            return False
        stated = published(found)
        return stated == StatedAddress(change.config_epoch, str(change.address)) and leads_to(
            found, self._slice(change, None)
        )

    @inlineCallbacks
    def _write_slice(self, change: MasterChange, found: dict[str, Any] | None) -> Generator[Deferred[Any], Any, None]:
        wanted = self._slice(change, None)
        path = "endpointslices"
        if found is None:
            yield self._api.create(SLICES, path, wanted)
            return
        path += f"/{wanted['metadata']['name']}"
        version = found["metadata"]["resourceVersion"]
        if found.get("addressType") == wanted["addressType"]:
            yield self._api.replace(SLICES, path, self._slice(change, version))
        else:
            # The type cannot be changed.
            yield self._api.delete(SLICES, path, version)
            yield self._api.create(SLICES, "endpointslices", wanted)

    def _patches(self, change: MasterChange, pods: Iterable[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """
        Return the names of Pods with their changes: new replicas first, so that never two Pods are the master.

        :raises UnsuitableObject: if no Pod has the address of the master.
        """
        if change.master not in self._settings.pods:
            return []
        found: list[tuple[bool, str, dict[str, Any]]] = []
        masters = 0
        for pod in pods:
            is_master = is_pod_of(pod, change.address)
            masters += is_master
            role = MASTER if is_master else REPLICA
            patch = pod_patch(pod, self._settings.label, role, change.address, change.config_epoch)
            if patch is not None:
                found.append((is_master, pod["metadata"]["name"], patch))
        if masters != 1:
            selector = self._settings.pods[change.master]
            raise UnsuitableObject(f"{masters} Pods with {selector} have the address {change.address} of the master")
        return [(name, patch) for _, name, patch in sorted(found, key=lambda each: each[:2])]


def compare(change: MasterChange, objects: Iterable[dict[str, Any]]) -> Publication | None:
    """
    Return why a change must not be written: an object has a newer one, or another address of the same epoch.

    :raises UnsuitableObject: if annotations are damaged.
    """
    newest = max((each for each in map(published, objects) if each), key=lambda each: each.config_epoch, default=None)
    if newest is None or newest.config_epoch < change.config_epoch:
        return None
    if newest.config_epoch > change.config_epoch:
        return Publication(PublishOutcome.OUTDATED)
    if newest.address != str(change.address):
        return Publication(PublishOutcome.CONFLICT, f"{newest.address} is published with the same epoch")
    return None
