"""The runtime socket of a real HAProxy: addresses, and what happens when it is restarted."""

# mypy: allow-untyped-calls
from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.extensions.fixture import FakeOperator, FakeView, healthy_master
from txsentinel.demo import free_port
from txsentinel.demo.other_programs import HaproxyProcess, find_program
from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.haproxy.runtime import server_addresses
from txsentinel.extensions.haproxy.service import make_service
from txsentinel.interfaces import IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting
from txsentinel.model.snapshots import Endpoint

SECONDS = 60.0


@implementer(IStateDirectory)
class NoStateDirectory:
    """A directory that cannot be used."""

    path = "/nonexistent"

    def prepare(self) -> None:
        """Do nothing."""


class RuntimeSocketTests(TestCase):
    """A Sentinel whose view is fake, and a HAProxy with two servers."""

    if find_program("haproxy") is None:
        skip = "not on this machine: haproxy"

    timeout = 300

    def setUp(self) -> None:
        """Prepare HAProxy."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.socket = str(Path(directory.name) / "admin.sock")
        config = f"""
global
    stats socket {self.socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen redis
    bind 127.0.0.1:{free_port()}
    server one 127.0.0.1:1
    server two 127.0.0.1:1
"""
        self.haproxy = HaproxyProcess(Path(directory.name) / "haproxy", free_port(), config)
        self.addCleanup(self.haproxy.stop)
        self.view = FakeView(healthy_master(), healthy_master("other", "10.0.0.9"), healthy_master("third"))

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Return the addresses that HAProxy has; nothing while it does not run."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self.socket)
                connection.sendall(b"show servers state redis\n")
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
            return server_addresses(b"".join(parts).decode())
        except OSError:
            return {}

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited in vain for {what}: {self.view.publishers.states()}")
            await deferLater(reactor, 0.02)

    def test_restart(self) -> Deferred[None]:
        """Servers have the addresses of their masters, also after a switch, and after HAProxy was restarted."""
        return ensureDeferred(self.restart())

    async def restart(self) -> None:
        """See ``test_restart``."""
        lines = [
            ExtensionSetting("socket", (self.socket,)),
            ExtensionSetting("server", ("mymaster", "redis/one")),
            ExtensionSetting("server", ("other", "redis/two")),
            ExtensionSetting("verify", ("1s",)),
        ]
        service = make_service(ExtensionContext(self.view, FakeOperator(), "", NoStateDirectory(), lines, reactor))
        service.startService()
        self.addCleanup(service.stopService)
        await self.until(lambda: self.view.publishers.warnings("mymaster"), "a failure without HAProxy")
        self.assertIn("No such file or directory", self.view.publishers.warnings("mymaster")[0])
        self.assertEqual(self.view.publishers.warnings("third"), ())
        self.haproxy.start(ready=False)
        one, two = ("10.0.0.1", 6379), ("10.0.0.9", 6379)
        await self.until(lambda: self.addresses() == {"one": one, "two": two}, "the addresses")
        self.view.put(replace(self.view.master("mymaster"), address=Endpoint("::1", 6380), config_epoch=8))
        await self.until(lambda: self.addresses().get("one") == ("::1", 6380), "the switch")
        self.haproxy.kill()
        self.haproxy.start(ready=False)
        await self.until(lambda: self.addresses() == {"one": ("::1", 6380), "two": two}, "the addresses again")
