"""Tests of ``txsentinel.extensions.http.service`` and of the plug-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeOperator, three_masters
from tests.log_events import observe_log
from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.http import service as module
from txsentinel.extensions.http.authentication import hash_of
from txsentinel.extensions.http.service import RETRY_SECONDS, TOKEN_SECONDS, HttpService, make_service
from txsentinel.extensions.http.streams import EventLog
from txsentinel.model.extension_settings import ExtensionSetting

LOADED = "import sys, txsentinel.cli.tap as tap; tap.Options(); tap.Options().longdesc; print(*sys.modules)"


class BusyReactor(MemoryReactorClock):
    """A reactor whose ports are in use until the test frees them."""

    busy = False

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen, unless the port is in use."""
        if self.busy:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return super().listenTCP(port, factory, backlog, interface)

    def getThreadPool(self) -> ThreadPool:
        """Return a pool that no test uses."""
        return ThreadPool(0, 1)


class ServiceCase(SynchronousTestCase):
    """A service over a reactor in memory."""

    def setUp(self) -> None:
        self.reactor: Any = BusyReactor()
        self.view = three_masters()
        self.operator = FakeOperator()

    def record_warnings(self, lines: list[str]) -> None:
        """Append the texts of all warnings from now on."""

        def record(event: LogEvent) -> None:
            if event.get("log_level") is LogLevel.warn:
                lines.append(formatEvent(event))

        observe_log(self, record)

    def make(self, argument: str = "tcp:8026", *settings: ExtensionSetting) -> HttpService:
        """Build a service as the command line does."""
        return make_service(ExtensionContext(self.view, self.operator, argument, None, settings, self.reactor))  # type: ignore[arg-type]


class ListeningTests(ServiceCase):
    """Ports."""

    def test_listens(self) -> None:
        """The endpoints are served while the service runs; nothing remains afterwards."""
        service = self.make("tcp:8026", ExtensionSetting("listen", ("tcp:8027:interface=127.0.0.2",)))
        self.assertEqual(self.reactor.tcpServers, [])
        service.startService()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in self.reactor.tcpServers],
            [(8026, "127.0.0.1"), (8027, "127.0.0.2")],
        )
        self.assertEqual(len(self.view.event_subscribers), 1)
        self.successResultOf(service.stopService())
        self.assertEqual(self.view.subscribers + self.view.event_subscribers, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_port_in_use(self) -> None:
        """A port that is in use is tried again, and its failure logged once."""
        lines: list[str] = []
        self.record_warnings(lines)
        self.reactor.busy = True
        service = self.make()
        service.startService()
        self.reactor.advance(RETRY_SECONDS)
        self.assertEqual(len(lines), 1)
        self.assertIn("Address already in use", lines[0])
        self.reactor.busy = False
        self.reactor.advance(RETRY_SECONDS)
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.successResultOf(service.stopService())

    def test_stopped_while_waiting(self) -> None:
        """Nothing is tried again after the end."""
        self.reactor.busy = True
        service = self.make()
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_refusals(self) -> None:
        """Settings that are wrong or unsafe refuse the start."""
        for argument in ("", "tcp:1:interface=0.0.0.0", "ssl:1:interface=0.0.0.0", "tcp:1;tokens=/does/not/exist"):
            self.assertRaises(ValueError, self.make, argument)
        self.operator.passwords["default"] = "secret"
        self.make("ssl:1:interface=0.0.0.0")
        self.operator.passwords.clear()
        self.make("tcp:1:interface=0.0.0.0;insecure=yes")


class InheritedSocketTests(ServiceCase):
    """Sockets that a service manager has opened, whose addresses are known late."""

    def listen(self, argument: str, host: str) -> tuple[list[str], bool]:
        """Start with a socket of an address; return the warnings, and whether it is served."""
        stopped: list[bool] = []

        class Port:
            def getHost(self) -> Any:
                return type("Address", (), {"host": host, "port": 80})

            def stopListening(self) -> Deferred[None]:
                stopped.append(True)
                return succeed(None)

        class Endpoint:
            def listen(self, factory: object) -> Deferred[Port]:
                return succeed(Port())

        lines: list[str] = []
        self.patch(module, "serverFromString", lambda reactor, description: Endpoint())
        self.record_warnings(lines)
        self.make(argument).startService()
        return lines, not stopped

    def test_addresses(self) -> None:
        """A public one is not served without consent."""
        self.assertEqual(self.listen("systemd:domain=INET:name=http", "127.0.0.1"), ([], True))
        self.assertEqual(self.listen("systemd:domain=INET:name=http;insecure=yes", "0.0.0.0"), ([], True))
        lines, served = self.listen("systemd:domain=INET:name=http", "0.0.0.0")
        self.assertFalse(served)
        self.assertIn("0.0.0.0 without TLS", lines[0])


class TokenFileTests(ServiceCase):
    """The file of tokens is read again while the service runs."""

    def test_changes(self) -> None:
        """A change is effective soon; a file that cannot be read changes nothing, and is logged once."""
        path = self.mktemp()
        good = f"ci {hash_of('one')} alice never\n"
        with open(path, "w") as stream:
            stream.write(good)
        lines: list[str] = []
        self.record_warnings(lines)

        def in_this_thread(reactor: object, pool: object, read: Callable[[str], Any], path: str) -> Deferred[Any]:
            try:
                return succeed(read(path))
            except ValueError as error:
                return fail(error)

        self.patch(module, "deferToThreadPool", in_this_thread)
        service = self.make(f"tcp:8026;tokens={path}")
        tokens = service.application.tokens
        service.startService()
        self.assertEqual(tokens.user(hash_of("one")), "alice")
        for contents, user in (("wrong\n", "alice"), ("wrong again\n", "alice"), ("# none\n", None), (good, "alice")):
            with open(path, "w") as stream:
                stream.write(contents)
            self.reactor.advance(TOKEN_SECONDS)
            self.assertEqual(tokens.user(hash_of("one")), user)
        self.assertEqual(len(lines), 1)
        self.assertIn("line 1:", lines[0])
        self.successResultOf(service.stopService())


class PluginTests(SynchronousTestCase):
    """The plug-in."""

    def test_imports(self) -> None:
        """The command line lists the extension without importing it or twisted.web."""
        printed = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
        loaded = printed.split()
        self.assertIn("txsentinel.extensions.deferred", loaded)
        self.assertEqual([name for name in loaded if name.startswith("txsentinel.extensions.http")], [])
        self.assertEqual([name for name in loaded if name.startswith("twisted.web.http")], [])

    def test_event_log_before_its_start(self) -> None:
        """Nothing is subscribed to before the service starts."""
        view = three_masters()
        EventLog(view, lambda: 0.0)
        self.assertEqual(view.subscribers + view.event_subscribers, [])
