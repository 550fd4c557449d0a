"""The objects: an EndpointSlice with the address of a master, and labels of Pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from txsentinel.model.snapshots import Endpoint

EPOCH: Final = "txsentinel/config-epoch"
ADDRESS: Final = "txsentinel/master-address"
"""The annotations by which Sentinels compare what they publish."""

MASTER, REPLICA = "master", "replica"


class UnsuitableObject(Exception):
    """An object has something that is not ours, or an address cannot be published; the text has the reason."""


@dataclass(frozen=True, slots=True)
class StatedAddress:
    """What the annotations of an object state."""

    config_epoch: int
    address: str


def published(document: Mapping[str, Any]) -> StatedAddress | None:
    """
    Return what the annotations of an object state; ``None`` if it has none of ours.

    :raises UnsuitableObject: if they are damaged.
    """
    metadata = document.get("metadata") or {}
    stated = metadata.get("annotations") or {}
    if EPOCH not in stated:
        return None
    text = str(stated[EPOCH])
    if not (text.isascii() and text.isdigit()):
        raise UnsuitableObject(f"the annotation {EPOCH} of {metadata.get('name')} is no number")
    return StatedAddress(int(text), str(stated.get(ADDRESS, "")))


def annotations_of(address: Endpoint, config_epoch: int) -> dict[str, str]:
    """Return the annotations for an address."""
    return {EPOCH: str(config_epoch), ADDRESS: str(address)}


def slice_name(service: str) -> str:
    """Return the name of the EndpointSlice of a Service."""
    return f"{service}-txsentinel"


def endpoint_slice(
    namespace: str, service: str, port_name: str, address: Endpoint, config_epoch: int, version: str | None
) -> dict[str, Any]:
    """
    Return the EndpointSlice.

    :param version: the version of the object that it replaces; ``None`` for a new one.
    :raises UnsuitableObject: if the address is a host name, which a Service cannot lead to.
    """
    try:
        family = f"IPv{ip_address(address.host).version}"
    except ValueError:
        raise UnsuitableObject(
            f"{address} has a host name, but a Service leads to IP addresses only; set 'sentinel announce-hostnames no'"
        ) from None
    metadata: dict[str, Any] = {
        "name": slice_name(service),
        "namespace": namespace,
        "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "txsentinel",
        },
        "annotations": annotations_of(address, config_epoch),
    }
    if version is not None:
        metadata["resourceVersion"] = version
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": [
            {"addresses": [address.host], "conditions": {"ready": True, "serving": True, "terminating": False}}
        ],
        "ports": [{"name": port_name, "port": address.port, "protocol": "TCP"}],
    }


def leads_to(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an EndpointSlice leads to the same address as another one."""
    if any(document.get(key) != wanted[key] for key in ("addressType", "ports")):
        return False
    labels = (document.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in wanted["metadata"]["labels"].items()):
        return False
    endpoints = [
        (each.get("addresses"), (each.get("conditions") or {}).get("ready")) for each in document.get("endpoints") or ()
    ]
    return endpoints == [(wanted["endpoints"][0]["addresses"], True)]


def is_pod_of(pod: Mapping[str, Any], address: Endpoint) -> bool:
    """Whether a Pod has the address: as its IP, or as a host name whose first label is the name of the Pod."""
    status = pod.get("status") or {}
    ips = {status.get("podIP"), *(each.get("ip") for each in status.get("podIPs") or ())}
    return address.host in ips or address.host.partition(".")[0] == pod["metadata"]["name"]


def pod_patch(
    pod: Mapping[str, Any], label: str, role: str, address: Endpoint, config_epoch: int
) -> dict[str, Any] | None:
    """Return the change of a Pod; ``None`` if it has everything already."""
    wanted = annotations_of(address, config_epoch)
    metadata = pod["metadata"]
    found = metadata.get("annotations") or {}
    labels = metadata.get("labels") or {}
    if labels.get(label) == role and all(found.get(key) == value for key, value in wanted.items()):
        return None
    return {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {label: role},
            "annotations": wanted,
        }
    }
