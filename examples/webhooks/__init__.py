"""A receiver of webhooks that verifies their signatures with the reference implementation of Standard Webhooks."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any

from examples.failover import Arrivals, Integration, Missing
from examples.http_server import HttpServer, ReceivedRequest


class WebhookReceiver(Integration):
    """
    One server with two targets: ``all`` gets what every Sentinel sends, ``once`` what the leader of the failover sends.

    The first request is answered with 503, so that it must be sent again.
    """

    title = "Webhook"

    def start(self, directory: Path) -> None:
        """Make a secret and start the server."""
        try:
            from standardwebhooks.webhooks import Webhook
        except ImportError:
            raise Missing("the receiver verifies signatures with a package: pip install standardwebhooks") from None
        self.secret = secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        self.secret_file = directory / "secret"
        self.secret_file.write_text(secret + "\n")
        self.webhook: Any = Webhook(secret)
        self.arrivals = Arrivals()
        self.refused: list[ReceivedRequest] = []
        self.records = Arrivals()
        self.server = HttpServer(self.answer)

    def answer(self, request: ReceivedRequest) -> tuple[int, bytes]:
        """Verify and keep a request."""
        self.webhook.verify(request.body, dict(request.headers))
        if not self.refused:
            self.refused.append(request)
            return 503, b""
        document = json.loads(request.body)
        arrivals = self.records if document["type"] == "txsentinel.failover" else self.arrivals
        arrivals.add((request.path, document))
        return 204, b""

    def extension_lines(self, sentinel: int) -> list[str]:
        """Two targets; the failover itself is sent only once, with its record."""
        return [
            f"webhooks url all {self.server.url}/all",
            "webhooks send all all",
            "webhooks events all +switch-master +odown",
            f"webhooks url once {self.server.url}/once",
            "webhooks events once +switch-master failover",
            *(f"webhooks secret-file {target} {self.secret_file}" for target in ("all", "once")),
            *(f"webhooks insecure {target} yes" for target in ("all", "once")),  # No TLS on this machine.
        ]

    def wait_known(self, address: str) -> float:
        """Wait for the switch from the leader, then for the record of the failover, and for what was refused."""
        known = self.arrivals.wait_for(lambda value: switch_of(value, "/once") == address, "the webhook of the leader")
        self.records.wait_for(
            lambda value: document_of(value)["data"]["outcome"] == "switched", "the record of the failover"
        )
        first = json.loads(self.refused[0].body)["id"]
        self.arrivals.wait_for(lambda value: document_of(value)["id"] == first, "the webhook that was refused")
        self.arrivals.wait_until(
            lambda values: len(self.sources(values, address)) == 3, "the webhooks of all Sentinels"
        )
        return known

    def sources(self, values: list[object], address: str) -> set[str]:
        """Return the Sentinels that have reported the switch to the target of all."""
        return {document_of(each)["source"] for each in values if switch_of(each, "/all") == address}

    def show(self) -> list[str]:
        """Return the latest notification."""
        documents = [document_of(value) for value in self.records.values]
        return [f"failover {each['data']['outcome']}, signature verified, id {each['id']}" for each in documents]

    def close(self) -> None:
        """Stop the server."""
        if hasattr(self, "server"):
            self.server.close()


def document_of(value: object) -> dict[str, Any]:
    """Return the body of a webhook."""
    assert isinstance(value, tuple)
    document: dict[str, Any] = value[1]
    return document


def switch_of(value: object, path: str) -> str | None:
    """Return the new address in the webhook of a switch that arrived at a path."""
    assert isinstance(value, tuple)
    document = document_of(value)
    if value[0] != path or document["type"] != "txsentinel.switch-master":
        return None
    return str(document["data"]["to"])
