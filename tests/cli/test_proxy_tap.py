"""The command line of ``twistd txsentinel-proxy``, and what it runs."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.log_events import observe_log
from txsentinel.cli import proxy_tap
from txsentinel.cli.proxy_tap import Options, PortNotOpened, ProxyService, makeService

WORDS = ["--master", "m", "--sentinel", "127.0.0.1:26379", "--listen", "tcp:6379:interface=127.0.0.1"]


class CommandLineTests(SynchronousTestCase):
    """Words, and the service that they make."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.patch(proxy_tap, "installed_reactor", lambda: self.reactor)
        self.patch(signal, "signal", lambda number, handler: None)
        self.patch(resource, "setrlimit", lambda kind, limits: None)

    def parsed(self, *words: str) -> Options:
        """Return the options of a command line."""
        options = Options()
        options.parseOptions(words)
        return options

    def service(self, *words: str) -> ProxyService:
        """Return the service of a command line."""
        made = makeService(self.parsed(*words))
        assert isinstance(made, ProxyService)
        return made

    def test_name(self) -> None:
        """``twistd`` knows the service by its name."""
        self.assertIn("txsentinel-proxy", [each.tapname for each in getPlugins(IServiceMaker)])

    def test_refused(self) -> None:
        """What is wrong is named."""
        for words, problem in (
            (WORDS[2:], "--master"),
            (WORDS[:4], "at least one --listen"),
            ([*WORDS, "--on-switch", "wait"], "neither 'close' nor 'drain'"),
            ([*WORDS, "--hold", "long"], "long"),
            ([*WORDS, "--sentinel", "nowhere:x"], "nowhere:x"),
        ):
            with self.subTest(words=words):
                self.assertIn(problem, str(self.assertRaises(UsageError, self.parsed, *words)))

    def test_help(self) -> None:
        """The help has the options of the verb."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            self.assertEqual(self.assertRaises(SystemExit, self.parsed, "--help").code, 0)
        for option in ("--accept-proxy", "--sentinel", "--max-held"):
            self.assertIn(option, shown.getvalue())

    def test_unusable_files(self) -> None:
        """A certificate that cannot be read ends the start."""
        words = [*WORDS, "--tls-ca", "/nowhere/ca.pem"]
        self.assertIn("/nowhere/ca.pem", str(self.assertRaises(SystemExit, self.service, *words)))

    def test_life(self) -> None:
        """The ports are opened with the rights of the start, and the Sentinels are asked; it ends with its counters."""
        service = self.service(*WORDS, "--read-only-listen", "tcp:6380:interface=127.0.0.1")
        self.assertEqual(self.reactor.tcpServers, [])
        service.privilegedStartService()
        service.startService()
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [6379, 6380])
        self.assertEqual({each[:2] for each in self.reactor.tcpClients}, {("127.0.0.1", 26379)})
        protocol: Any = self.reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.assertIsNotNone(protocol)
        lines: list[str] = []
        observe_log(self, lambda event: lines.append(formatEvent(event)))
        # The attempt to connect to the Sentinel never ends in this reactor.
        self.assertNoResult(service.stopService())
        self.assertIn("0 switches", lines[0])

    def test_port_in_use(self) -> None:
        """A port that cannot be opened ends the start, with its endpoint."""
        service = self.service(*WORDS)

        def refuse(*arguments: object, **options: object) -> None:
            raise CannotListenError("127.0.0.1", 6379, OSError("in use"))

        self.patch(self.reactor, "listenTCP", refuse)
        error = self.assertRaises(PortNotOpened, service.privilegedStartService)
        self.assertIn("cannot listen on tcp:6379:interface=127.0.0.1", str(error))
