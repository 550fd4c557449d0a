"""Webhooks over real HTTPS: the certificate of the receiver is verified."""

# mypy: allow-untyped-calls
from __future__ import annotations

import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from examples.http_server import HttpServer, ReceivedRequest
from tests.extensions.fixture import FakeOperator, FakeView, healthy_master
from tests.extensions.outward.test_webhook_service import KEY, PAYLOAD, TemporaryDirectory
from tests.interop.fixtures import SECONDS
from tests.interop.reactor_cleanup import close_connections_of
from tests.log_events import observe_log
from tests.tls.authority import Authority, Issued
from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.webhooks.service import WebhookService, make_service
from txsentinel.model.extension_settings import ExtensionSetting


class HttpsTests(TestCase):
    """Receivers with certificates of two authorities, and one with that of another host."""

    timeout = 300

    def setUp(self) -> None:
        """Make certificates."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.authority = Authority(self.directory / "tls")
        self.received: list[str] = []
        close_connections_of(self)

    def receiver(self, name: str, issued: Issued) -> str:
        """Start a receiver, and return its address."""

        def answer(request: ReceivedRequest) -> tuple[int, bytes]:
            self.received.append(f"{name} {json.loads(request.body)['type']}")
            return 204, b""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        server = HttpServer(answer, context)
        self.addCleanup(server.close)
        return f"{server.url}/{name}"

    def service(self, *targets: tuple[str, str, str]) -> WebhookService:
        """Start the service with these names, addresses and files of authorities."""
        key = self.directory / "key"
        key.write_text(KEY + "\n")
        lines = [
            ExtensionSetting(setting, (name, value))
            for name, url, authorities in targets
            for setting, value in (
                ("url", url),
                ("ca-file", authorities),
                ("secret-file", str(key)),
                ("events", "+switch-master"),
            )
        ]
        state = TemporaryDirectory(str(self.directory))
        self.view = FakeView(healthy_master())
        service = make_service(ExtensionContext(self.view, FakeOperator(), "", state, lines, reactor))
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited in vain for {what}: {self.received}")
            await deferLater(reactor, 0.02)

    def test_certificates(self) -> Deferred[None]:
        """Only the receiver gets a notification whose certificate is of the authority and for its host."""
        return ensureDeferred(self.certificates())

    async def certificates(self) -> None:
        """See ``test_certificates``."""
        other = Authority(self.directory / "other", "other")
        good = self.receiver("good", self.authority.issue("good", ip="127.0.0.1"))
        foreign = self.receiver("foreign", other.issue("foreign", ip="127.0.0.1"))
        wrong_host = self.receiver("wrong-host", self.authority.issue("host", ip="127.0.0.9"))
        trusted = str(self.authority.certificate)
        lines: list[str] = []
        observe_log(self, lambda event: lines.append(formatEvent(event)))
        service = self.service(
            ("good", good, trusted), ("foreign", foreign, trusted), ("wrong-host", wrong_host, trusted)
        )
        self.view.publish("+elected-leader", "master mymaster 10.0.0.9 6379", "mymaster")
        self.view.publish("+switch-master", PAYLOAD, "mymaster")
        await self.until(lambda: self.received, "the notification")
        for name, problem in (("foreign", "certificate verify failed"), ("wrong-host", "VerificationError")):
            failed = [name, "cannot be delivered", problem]
            await self.until(
                lambda: any(all(word in line for word in failed) for line in lines),  # noqa: B023
                f"{failed} in {lines}",
            )
        await service.stopService()
        kept = (self.directory / "dead-letters.jsonl").read_text().splitlines()
        self.assertEqual({json.loads(line)["target"] for line in kept}, {"foreign", "wrong-host"})
        self.assertEqual(self.received, ["good txsentinel.switch-master"])
