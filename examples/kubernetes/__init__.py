"""A double of the API of Kubernetes, in which the Sentinels keep an EndpointSlice and the labels of two Pods."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from examples.failover import MASTER, Arrivals, Integration
from examples.http_server import HttpServer
from examples.kubernetes.api_double import ApiDouble

NAMESPACE = "redis"
SERVICE = "redis-master"
SLICES, PODS = "apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", "api/v1/namespaces/{}/pods"


class KubernetesObjects(Integration):
    """
    The EndpointSlice of a Service.

    All servers of the example have the address 127.0.0.1, so the labels of Pods, which are found by their addresses,
    are no part of it.
    """

    title = "Kubernetes"

    def start(self, directory: Path) -> None:
        """Start the double, and write a token."""
        self.token = secrets.token_urlsafe(24)
        self.token_file = directory / "token"
        self.token_file.write_text(self.token)
        self.arrivals = Arrivals()
        self.api = ApiDouble(NAMESPACE, self.token, self.arrivals.add)
        self.server = HttpServer(self.api.answer)

    def extension_lines(self, sentinel: int) -> list[str]:
        """The settings that a Pod needs not, and the Service."""
        return [
            f"kubernetes server {self.server.url}",
            "kubernetes insecure yes",
            f"kubernetes namespace {NAMESPACE}",
            f"kubernetes token-file {self.token_file}",
            f"kubernetes service {MASTER} {SERVICE}",
        ]

    def wait_known(self, address: str) -> float:
        """Wait until the slice leads to an address."""
        return self.arrivals.wait_for(lambda document: address_of(document) == address, "the EndpointSlice")

    def show(self) -> list[str]:
        """Return the slice."""
        found = self.api.get(SLICES, f"{SERVICE}-txsentinel")
        epoch = found["metadata"]["annotations"]["txsentinel/config-epoch"]
        conflicts = sum(status == 409 for _, _, status in self.api.requests)
        return [
            f"{found['kind']} {found['metadata']['name']} leads to {address_of(found)}, config epoch {epoch}",
            f"{len(self.api.requests)} requests, {conflicts} of them refused as another Sentinel was faster",
        ]

    def close(self) -> None:
        """Stop the double."""
        if hasattr(self, "server"):
            self.server.close()


def address_of(document: Any) -> str:
    """Return the address of a slice."""
    return f"{document['endpoints'][0]['addresses'][0]}:{document['ports'][0]['port']}"
